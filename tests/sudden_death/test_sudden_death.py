"""Real processes that die of real signals: what is left is a whole checkpoint of the last steps."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import CommandLine, wait_for

SCRIPT = Path(__file__).parent / "dying_script.py"
SIGNALS = ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS")


def begun(output: str) -> int:
    """The last step that the script said it began."""
    return int(re.findall(r"^step (\d+)\s*$", output, re.MULTILINE)[-1])


def store_of(backprop: CommandLine, run: str) -> CheckpointStore:
    return CheckpointStore(backprop.home / "runs" / run / "checkpoints", clock=SYSTEM)


def newest(backprop: CommandLine, run: str) -> dict[str, Any]:
    """The newest checkpoint's step and reason, after a look at every value in it."""
    store = store_of(backprop, run)
    info = store.list()[0]
    states = store.load(info, (NumpyTranslator(),)).states
    arrays: dict[str, np.ndarray[Any, Any]] = states["model"]  # type: ignore[assignment]
    assert len(arrays) == 6
    for array in arrays.values():
        assert (np.asarray(array) == info.step).all(), f"a copy that mixes steps: step {info.step}"
    return {"step": info.step, "reason": info.facts.reason.value, "path": info.path}


def most_lost(left: dict[str, Any], nbytes: float, step_s: float = 0.02) -> int:
    """Steps from the newest checkpoint to a death: those of twice a hundred copies, as dear as its session measured.

    A periodic checkpoint from before the first copy knows no cost: then it is that of a copy at 1 GB/s.
    """
    copy_s = json.loads((Path(left["path"]) / "manifest.json").read_text())["extra"]["copy_s"]
    return 5 + math.ceil(2 * 100 * (copy_s or nbytes / 1e9) / step_s)


def die(backprop: CommandLine, run: str, *arguments: object) -> tuple[int, Any]:
    """Let a training die; the step that it died in, and what the command has said."""
    done = start(backprop, run, "-m", "10", script=arguments)
    return begun(done.stdout), done


def start(
    backprop: CommandLine, run: str, *options: str, script: tuple[object, ...]
) -> subprocess.CompletedProcess[str]:
    """Run the script to its end, or to that of the command."""
    if not (backprop.folder / SCRIPT.name).exists():
        shutil.copy(SCRIPT, backprop.folder / SCRIPT.name)
    return backprop("run", SCRIPT.name, *options, "--run-id", run, "--", *map(str, script))


@pytest.mark.parametrize(
    "how",
    [pytest.param(how, marks=pytest.mark.long if how in ("SIGBUS", "SIGABRT") else ()) for how in SIGNALS],
)
def test_a_death_leaves_the_last_steps(backprop: CommandLine, how: str) -> None:
    """At three random moments: a whole checkpoint with the reason `survivor`, named in the last line, to go on from."""
    chance = random.Random(how)
    for number, nbytes in enumerate((40_000, 2e6, 12e6)):
        run = f"died{number}"
        died_in, done = die(
            backprop, run, how, chance.randrange(40, 80), chance.random() * 0.05, nbytes, 0.02
        )
        assert done.returncode == 128 + getattr(signal, how), done.stderr
        left = newest(backprop, run)
        assert left["reason"] == "survivor"
        assert 3 <= left["step"] <= died_in
        assert f"step {left['step']} was saved" in done.stderr.replace("Step", "step").replace(
            ", the last complete one,", ""
        )
        assert backprop.record(run)["last_checkpoint"] == str(store_of(backprop, run).list()[0].path)
    shown = backprop("checkpoints", run)
    assert "survivor" in shown.stdout
    resumed = backprop("resume", run, "-m", "10")  # and dies where it died before
    assert f"resumed from step {left['step']}" in resumed.stderr
    assert newest(backprop, run)["step"] >= left["step"]


def test_the_step_that_is_named_is_one_that_training_reached(backprop: CommandLine) -> None:
    """A loop of numpy is watched after a second only: the steps before that are counted once, not twice."""
    backprop.script(
        """
        import os, time
        import numpy as np
        w = np.zeros(8)
        for step in range(1, 1000):
            w += np.random.default_rng(step).normal(size=8)
            time.sleep(0.02)
            if step == 150:
                os.kill(os.getpid(), 9)
        """
    )
    assert backprop("run", "train.py", "--run-id", "numpy").returncode == 137
    [died] = [
        event
        for line in (backprop.attempt_dir("numpy") / "governor.jsonl").read_text().splitlines()
        if (event := json.loads(line))["kind"] == "survivor"
    ]
    assert died["step"] <= died["died_at"] <= 150


def test_what_a_copy_in_memory_lacks_is_named_before_it_is_needed(backprop: CommandLine) -> None:
    """A queue that changes first when the early checkpoint is made already: the survivor lacks it, and it was said."""
    backprop.script(
        """
        import os, queue, time
        import torch
        import backprop
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        waiting = queue.SimpleQueue()
        with backprop.timebox(model=model, optimizer=optimizer) as box:
            for step in box.steps(100_000):
                optimizer.zero_grad()
                model(torch.ones(2, 4)).sum().backward()
                optimizer.step()
                if step > 60:
                    waiting.put(step)
                time.sleep(0.02)
                if step == 400:
                    os.kill(os.getpid(), 9)
        """
    )
    done = backprop("run", "train.py", "--run-id", "queue", "-m", "10")
    left = backprop("checkpoints", "queue").stdout
    assert "survivor" in left, done.stderr
    assert "`main.waiting` (SimpleQueue) changes during training and cannot be kept" in done.stderr


def test_a_governor_that_dies_with_its_script_has_keepers(backprop: CommandLine) -> None:
    """Governor and script are killed within a millisecond: a keeper commits what was left, once, and writes it down."""
    _, done = die(backprop, "both", "BOTH", 50, 0.01, 6e6, 0.02)
    assert done.returncode == -signal.SIGKILL
    log = backprop.attempt_dir("both") / "governor.jsonl"
    wait_for(lambda: '"survivor"' in log.read_text())
    left = newest(backprop, "both")
    assert left["reason"] == "survivor"
    assert left["step"] >= 3
    assert len(store_of(backprop, "both").list()) <= 2  # the early periodic one, and this one
    resumed = backprop("resume", "both", "-m", "10")
    assert f"resumed from step {left['step']}" in resumed.stderr


def test_a_chain_goes_on_after_one_death_and_ends_after_two(backprop: CommandLine) -> None:
    """Out of memory once may be chance, twice in a row is a wall: the chain says so; `--deaths` lets it try again."""
    backprop.environment["DYING_ATTEMPTS"] = "1"
    chain = ("-m", "10", "--until-done")
    done = start(backprop, "once", *chain, script=("SIGKILL", 40, 0.0, 40_000, 0.02, 60))
    assert done.returncode == 0, done.stderr
    assert [attempt["outcome"] for attempt in backprop.record("once")["attempts"]] == ["failed", "completed"]
    assert "the chain continues from what was saved" in done.stderr
    backprop.environment["DYING_ATTEMPTS"] = "2"
    done = start(backprop, "twice", *chain, script=("SIGSEGV", 20, 0.0, 40_000, 0.02, 60))
    assert done.returncode == 128 + signal.SIGSEGV, done.stderr
    assert "died suddenly twice in a row" in done.stderr
    assert len(backprop.record("twice")["attempts"]) == 2
    done = backprop("resume", "twice", *chain)
    assert done.returncode == 0, done.stderr


def test_an_exception_leaves_the_last_steps_too(backprop: CommandLine) -> None:
    """A training that ends with an error of its script or its device goes on from its last steps, and a chain does not."""
    shutil.copy(SCRIPT, backprop.folder / SCRIPT.name)
    text = (backprop.folder / SCRIPT.name).read_text()
    (backprop.folder / SCRIPT.name).write_text(text.replace("model.step()", "model.step(); assert step < 30"))
    done = start(backprop, "error", "-m", "10", "--until-done", script=("none", 0, 0.0, 40_000, 0.02))
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
    assert newest(backprop, "error")["reason"] == "survivor"
    assert len(backprop.record("error")["attempts"]) == 1


@pytest.mark.faults
@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("turn", range(100))
def test_a_death_at_any_moment_leaves_a_whole_checkpoint(backprop: CommandLine, how: str, turn: int) -> None:
    """At a hundred random moments each: while copies are made and written, with periodic saves and near the deadline."""
    chance = random.Random(f"{how} {turn}")
    box = backprop.box(12.0) if turn % 2 else "10"  # the end zone, or the middle of a long box
    options = ("-m", box, "-c", "0.5s")
    arguments = (
        how,
        chance.randrange(20, 120),
        chance.random() * 0.05,
        chance.choice((40_000, 4e6, 40e6)),
        0.02,
    )
    done = start(backprop, "dies", *options, script=arguments)
    left = newest(backprop, "dies")
    assert store_of(backprop, "dies").verify(store_of(backprop, "dies").list()[0]) == []
    if done.returncode:  # else the box was over before
        assert done.returncode == 128 + getattr(signal, how), done.stderr
        died_in = begun(done.stdout)
        assert died_in - left["step"] <= most_lost(left, arguments[3])


@pytest.mark.faults
@pytest.mark.parametrize("turn", range(30))
def test_governor_and_script_killed_together_at_any_moment_lose_a_step(
    backprop: CommandLine, turn: int
) -> None:
    """SIGKILL to both process groups, as a scheduler sends it: a keeper commits the newest copy, and a resume goes on."""
    chance = random.Random(f"both {turn}")
    shutil.copy(SCRIPT, backprop.folder / SCRIPT.name)
    box = backprop.box(6.0) if turn % 2 else "10"  # the end zone, or the middle of a long box
    words = ("none", "0", "0", str(chance.choice((40_000, 4e6, 40e6))), "0.02")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    command = ("run", SCRIPT.name, "-m", box, "-c", "0.5s", "--run-id", "both", "--", *words)
    governor = backprop.start(*command, **quiet)
    attempt, after = backprop.attempt_dir("both"), chance.randrange(5, 300)
    wait_for(lambda: governor.poll() is not None or len(_steps(attempt)) >= after)
    time.sleep(chance.random() * 0.05)
    script = json.loads((attempt / "events.jsonl").read_text().partition("\n")[0])["pid"]
    for group in chance.sample((governor.pid, script), 2):
        with suppress(ProcessLookupError):  # the box was over before
            os.killpg(group, signal.SIGKILL)
    governor.wait()
    wait_for(lambda: not _processes_of(backprop))
    left, died_in = newest(backprop, "both"), _steps(attempt)[-1]
    assert store_of(backprop, "both").verify(store_of(backprop, "both").list()[0]) == []
    assert died_in - left["step"] <= most_lost(left, float(words[3])), left
    resumed = backprop("resume", "both", "-m", backprop.box(1.0))
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed from step {left['step']}" in resumed.stderr
    assert newest(backprop, "both")["step"] > left["step"]


def _steps(attempt: Path) -> list[int]:
    """The steps that the script said it began."""
    log = attempt / "output.log"
    text = log.read_text() if log.exists() else ""
    return [int(step) for step in re.findall(r"^step (\d+)\s*$", text, re.MULTILINE)]


def _processes_of(backprop: CommandLine) -> list[int]:
    """Those that have its home in their environment: governor, keepers and script."""
    told, found = f"BACKPROP_HOME={backprop.home}\0".encode(), list[int]()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if told in (process / "environ").read_bytes() + b"\0":
                found.append(int(process.name))
    return found
