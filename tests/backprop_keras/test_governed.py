"""The Keras example under the command: stopped, resumed, and the same as never stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from backprop_core.clock import SYSTEM
from backprop_core.runs.events import read_events
from tests.backprop_keras.cutting import ROOT, environment

EXAMPLE = "examples/digits_keras.py"
EPOCHS = ("--epochs", "3")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "backprop_cli", *arguments]


def digest(output: str) -> str:
    return next(line for line in reversed(output.splitlines()) if "digest" in line).split("digest ")[1]


def wait_for_step(events: Path, step: int) -> None:
    """Until a progress event says that `step` steps are done."""
    deadline = SYSTEM.monotonic() + 120
    while SYSTEM.monotonic() < deadline:
        if events.exists() and any(
            e.get("step", 0) >= step for e in read_events(events) if e["kind"] == "progress"
        ):
            return
        time.sleep(0.1)  # a poll, not a guess
    raise AssertionError("no progress was seen")


@pytest.mark.faults  # examples/unmodified is stopped and resumed in every run of the tests
@pytest.mark.timeout(400)
def test_the_example_is_stopped_and_resumed_to_the_same_bits(tmp_path: Path) -> None:
    """`backprop run` is stopped with status 0, `backprop resume` ends it, and the digest is that of plain Python."""
    env = environment("torch", tmp_path)
    run = command(
        "run", "-m", "5", "--run-id", "digits", "--no-wait", "--min-free-ram", "0.1", EXAMPLE, "--", *EPOCHS
    )
    with subprocess.Popen(
        [*run, "--pause", "0.1"],
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as first:
        wait_for_step(tmp_path / "home/runs/digits/attempts/1/events.jsonl", 10)
        subprocess.run(command("stop", "digits"), env=env, cwd=ROOT, check=True, capture_output=True)
        said, _ = first.communicate(timeout=240)
    assert first.returncode == 0, said
    assert "digest" not in said, "the script went on behind the stop"
    resumed = subprocess.run(
        command("resume", "digits"),
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    plain = subprocess.run(
        [sys.executable, EXAMPLE, *EPOCHS],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert digest(resumed.stdout) == digest(plain.stdout)
