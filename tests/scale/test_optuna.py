"""The lines of docs/scale.md for Optuna: a trial that is cut short continues as the next one, from its checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backprop_torch.cutting import environment
from tests.installed_apart import installed_apart
from tests.scale.page import block

BEFORE = """
import json, sys, time
import optuna, torch
import backprop

STEPS, BUDGETS, seen = 60, ["1s"], []
model = optimizer = None

def made(lr):
    global model, optimizer
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
"""
TRAINS = """
        for step in box.steps(STEPS):
            torch.manual_seed(step)
            loss = torch.nn.functional.cross_entropy(model(torch.randn(4, 8)), torch.arange(4) % 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append((run, step))
            time.sleep(0.05 if trial.number == 0 else 0)
        loss = float(loss.detach())
"""
BEHIND = """
trials = [{"state": t.state.name, "params": t.params, "run": t.user_attrs.get("run")} for t in study.trials]
json.dump({"trials": trials, "seen": seen}, open(sys.argv[1], "w"))
"""


def page_as_a_script() -> str:
    """The block of the page, with a model in place of what it leaves out; the first box is short."""
    replaced = [
        ("        ...\n", TRAINS),
        ('"10m"', 'BUDGETS.pop() if BUDGETS else "10m"'),
        ("    run = ", "    made(lr)\n    run = "),
        ("n_trials=50", "n_trials=3"),
    ]
    return BEFORE + block("class CutShort", replaced) + BEHIND


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_trial_that_is_cut_short_continues_as_the_next(tmp_path: Path) -> None:
    """It fails for the sampler, and the next trial has its parameters and its run, and takes the steps that are left."""
    script, result = tmp_path / "study.py", tmp_path / "result.json"
    script.write_text(page_as_a_script())
    done = subprocess.run(
        [sys.executable, str(script), str(result)],
        env={**environment(tmp_path), "PYTHONPATH": installed_apart("optuna==5.0.0")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(result.read_text())
    cut, rest, other = made["trials"]
    assert [one["state"] for one in made["trials"]] == ["FAIL", "COMPLETE", "COMPLETE"], done.stderr
    assert rest["params"] == cut["params"] != other["params"]
    assert rest["run"] == "sweep-0"
    steps = [step for run, step in made["seen"] if run == "sweep-0"]
    assert steps == list(range(60))
    assert [step for run, step in made["seen"] if run == "sweep-2"] == list(range(60))
