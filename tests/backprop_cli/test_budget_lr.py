"""A learning rate that follows the budget, by the command: to its end over all boxes of a total, and repeated exactly."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backprop_core.runs.schedule_record import read_schedule
from tests.backprop_cli.budget_schedules import NOTES, PACKAGES, SCRIPTS
from tests.backprop_cli.commandline import CommandLine

Noted = dict[int, tuple[float, str]]


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("framework", SCRIPTS)
def test_a_schedule_ends_with_the_total_and_can_be_replayed(backprop: CommandLine, framework: str) -> None:
    """Over two boxes of one total the rate rises to the optimizer's and falls to nearly nothing; another run that replays
    it, itself stopped and resumed at another step, has the same rates and weights behind each step.
    """
    backprop.environment["KERAS_BACKEND"] = "torch"
    backprop.script(NOTES, "notes.py")
    backprop.script(SCRIPTS[framework])
    total = 8 + 6 * min(
        _import_s(backprop, PACKAGES[framework]) for _ in range(2)
    )  # the first fills the disk's cache
    chain = ("--until-done", "--total", f"{total:.1f}s", "-m", f"{0.6 * total:.1f}s")
    first = backprop("run", "train.py", "--run-id", "first", *chain, "--", "-1", "0.02", timeout=600)
    assert first.returncode == 124, first.stderr
    boxes = [_noted(file) for file in sorted(backprop.folder.glob("first-*.seen"))]
    assert len(boxes) >= 2, first.stderr
    rates = [rate for box in boxes for rate, _ in box.values()]
    assert max(rates) > 0.095
    assert rates[-1] < 0.01, first.stderr
    assert "The schedule stood at" not in first.stderr
    told = _learning_rates(backprop)
    assert len(told) > 5
    assert told <= set(rates), "the rate in the progress is that of a step"
    recorded = read_schedule(backprop.home / "runs/first/schedules/schedule.f64")
    assert min(recorded) >= 0.0
    assert recorded == sorted(recorded)
    seen = {step: facts for box in boxes for step, facts in box.items()}
    middle, last = max(boxes[0]) // 2, max(seen)
    assert middle < min(boxes[1]) < last

    replaying = ("--run-id", "second", "--replay-schedule", "first", "-m", "10", "--grace", "1")
    second = backprop("run", "train.py", *replaying, "--", str(middle), "0.005", timeout=600)
    assert backprop.record("second")["status"] == "preempted", second.stderr
    backprop.script(NOTES.replace("int(sys.argv[1])", str(last)), "notes.py")
    resumed = backprop("resume", "second", "-m", "10", timeout=600)
    assert backprop.record("second")["status"] == "preempted", resumed.stderr
    again = [_noted(file) for file in sorted(backprop.folder.glob("second-*.seen"))]
    assert len(again) == 2
    assert middle < min(again[1]) <= last, "it was not cut within the steps that are compared"
    assert len({weights for _, weights in seen.values()}) == len(seen)
    repeated = {step: facts for box in again for step, facts in box.items() if step <= last}
    assert repeated == seen


def _learning_rates(backprop: CommandLine) -> set[float]:
    """What the events say of it, which the script itself logs nowhere."""
    lines = [
        line
        for number in (1, 2)
        for line in (backprop.attempt_dir("first", number) / "events.jsonl").read_text().splitlines()
    ]
    events = [event for event in map(json.loads, lines) if event["kind"] == "progress"]
    return {event["values"]["learning_rate"] for event in events}


def _import_s(backprop: CommandLine, package: str) -> float:
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", f"import {package}"],
        env=backprop.environment,
        check=True,
        start_new_session=True,  # as the script's will be: a kernel shares out its time among sessions
    )
    return time.monotonic() - began


def _noted(file: Path) -> Noted:
    lines = [line.split() for line in file.read_text().splitlines()]
    return {int(step): (float(rate), weights) for step, rate, weights in lines}
