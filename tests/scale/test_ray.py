"""The lines of docs/scale.md for Ray: two workers are cut, killed, and continue exactly; so do trials of Ray Tune."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.backprop_torch.cutting import environment
from tests.installed_apart import installed_apart
from tests.scale.page import block

RAY = "ray[train,tune]==2.60.0"
pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

BEGINS = """
import hashlib, json, os, signal, sys, time
from pathlib import Path

import ray, ray.train, ray.train.torch, torch
from ray import tune
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch.utils.data import DataLoader, TensorDataset

import backprop

OUT = Path(sys.argv[1])
ray.init(num_cpus=3, include_dashboard=False, object_store_memory=100 * 2**20)
x = torch.randn(320, 8, generator=torch.Generator().manual_seed(0))
dataset = TensorDataset(x, (x.sum(1) > 0).long())
"""
TRAIN = """
NAME, BUDGETS, DIES = sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
ends = []

def make_model():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 2))

def die_once(step):
    mark = OUT / "died"
    if DIES == "dies" and step == 70 and ray.train.get_context().get_world_rank() == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""
STEP = """
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                steps += 1
                time.sleep(0.02)
                die_once(steps)
"""
DIGEST = """
    weights = b"".join(one.detach().numpy().tobytes() for one in model.parameters())
    seen = {"steps": steps, "resumed": str(box.resumed_from or ""), "weights": hashlib.sha256(weights).hexdigest()}
    first = """


def ended(folder: Path, script: str, *words: str) -> Any:
    """What a script has written, which trains under Ray."""
    path = folder / "script.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path), str(folder), *words],
        env={
            **environment(folder),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), installed_apart(RAY)]),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TRAIN_V2_ENABLED": "1",
            "RAY_AUTH_MODE": "disabled",
            "RAY_DEDUP_LOGS": "0",
            "RAY_memory_monitor_refresh_ms": "0",  # a crowded machine is no reason to end a worker
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return json.loads((folder / "ended.json").read_text())


def fits(folder: Path, name: str, budgets: list[str], dies: str = "lives") -> Any:
    """How each `fit` of the page's script ended, whose boxes are as long as `budgets` says."""
    replaced = [
        ("                ...\n", STEP),
        ('"1h", run="name"', 'config["budget"], run=NAME, checkpoint_every="1s"'),
        ("box.epochs(10)", "box.epochs(6)"),
        ("    with backprop", "    steps = 0\n    with backprop"),
        ("\n    first = ", DIGEST),
        ('{"outcome": str(box.outcome)}', '{"outcome": str(box.outcome), **seen}'),
        (
            "TorchTrainer(train_loop, ",
            'TorchTrainer(train_loop, train_loop_config={"budget": BUDGETS[len(ends)]}, ',
        ),
        ("RunConfig(", 'RunConfig(storage_path=str(OUT / "ray"), '),
        (
            'if trainer.fit().metrics["outcome"]',
            'ends.append(trainer.fit().metrics)\n    if ends[-1]["outcome"]',
        ),
    ]
    script = BEGINS + TRAIN + block("def train_loop", replaced)
    script += '\n(OUT / "ended.json").write_text(json.dumps(ends))\nray.shutdown()\n'
    return ended(folder, script, name, json.dumps(budgets), dies)


def test_two_workers_are_cut_and_killed_and_train_on_exactly(tmp_path: Path) -> None:
    """A box that was too short is followed by another `fit`; a worker that dies is started again by Ray, and goes on."""
    (whole,) = fits(tmp_path, "whole", ["10m"])
    assert (whole["outcome"], whole["steps"], whole["resumed"]) == ("completed", 120, "")
    cut, rest = fits(tmp_path, "cut", ["3s", "10m"])
    assert (cut["outcome"], rest["outcome"]) == ("timeboxed", "completed")
    assert cut["steps"] < rest["steps"] == 120  # a variable of the script's, which came back
    assert rest["weights"] == whole["weights"]
    (died,) = fits(tmp_path, "died", ["10m"], "dies")
    assert (tmp_path / "died").exists()
    assert died["resumed"]
    assert died["steps"] == 120
    assert died["weights"] == whole["weights"]


TUNE = """
import random
seen = OUT / "seen"

def made(lr):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torch.nn.Linear(8, 2)
    return model, torch.optim.Adam(model.parameters(), lr=lr)
"""
TUNE_STEP = """
        with seen.open("a") as file:
            for step in box.steps(100):
                torch.manual_seed(step)
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(torch.randn(4, 8)), torch.arange(4) % 2)
                loss.backward()
                optimizer.step()
                print(run, step, config["lr"], file=file, flush=True)
                time.sleep(0.03)
        loss = float(loss.detach())
"""


def test_a_trial_of_ray_tune_that_was_cut_is_the_same_trial(tmp_path: Path) -> None:
    """Its boxes are shorter than its training: with its parameters it takes each step once, and reports at the end."""
    replaced = [
        ("        ...\n", TUNE_STEP),
        ("    with backprop", '    model, optimizer = made(config["lr"])\n    with backprop'),
        ('"10m"', '"2s"'),
        ("tune.Tuner(", "results = tune.Tuner("),
        ("tune.RunConfig(", 'tune.RunConfig(storage_path=str(OUT / "ray"), '),
    ]
    script = BEGINS + TUNE + block("def trial", replaced)
    script += '\n(OUT / "ended.json").write_text(json.dumps([one.metrics["loss"] for one in results]))\nray.shutdown()\n'
    (loss,) = ended(tmp_path, script)
    assert loss > 0
    rows = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    assert [int(step) for _, step, _ in rows] == list(range(100))
    assert len({(run, rate) for run, _, rate in rows}) == 1
    runs = list((tmp_path / "home" / "runs").iterdir())
    assert [one.name for one in runs] == [rows[0][0]]
    assert len(list((runs[0] / "attempts").iterdir())) > 1
