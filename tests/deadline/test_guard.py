"""A step that never ends costs that step and nothing else: real processes, really stuck."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "hanging_script.py"
TRAINS_S = 8.0
"""Of the box, beside the start of the script."""
HANGS_AT = 50
STEP_S = 0.05
"""Of the script."""
UNGOVERNED_S = 10.0
"""The box that the script opens itself."""
BEFORE_S = 3
"""So long before its end a slow step begins there."""


def _environment(home: Path) -> dict[str, str]:
    """A home, and slots, of this test's own, on a machine that may be short of everything."""
    return {
        **os.environ,
        "BACKPROP_HOME": str(home),
        "BACKPROP_RUNTIME_DIR": str(home / "runtime"),
        "BACKPROP_MIN_FREE_RAM": "0",
        "BACKPROP_MAX_LOAD": "1000",
        "BACKPROP_GPU_PROBE": "none",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def start_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long the command and a script that imports PyTorch take, here and now."""
    began = time.monotonic()
    command = [sys.executable, "-m", "backprop_cli", "run", "-m", "10", "--no-wait", "--exec", sys.executable]
    command += ["--", "-c", "import torch, backprop"]
    environment = _environment(tmp_path_factory.mktemp("measured"))
    subprocess.run(command, capture_output=True, env=environment, timeout=240, check=True)
    return time.monotonic() - began


@pytest.fixture
def box_s(start_s: float) -> float:
    """A box in which the script trains for `TRAINS_S`, however long it takes to start."""
    return TRAINS_S + 2 * start_s


def _ended_in_time(attempt: Any, box_s: float, start_s: float) -> bool:
    """With what a process takes to be gone and the governor to write it down: longer where starts take longer."""
    return bool(attempt["ended_wall"] - attempt["started_wall"] <= box_s + max(0.5, start_s / 8))


def _run(home: Path, how: str, box_s: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "backprop_cli", "run", "-m", str(box_s / 60), "--run-id", "stuck"]
    command += ["--no-wait", str(SCRIPT), "--", how, str(HANGS_AT)]
    return subprocess.run(
        command, capture_output=True, text=True, env=_environment(home), timeout=600, check=False
    )


def _record(home: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((home / "runs/stuck/run.json").read_text())
    return record


def _steps_saved(home: Path) -> list[int]:
    folders = (home / "runs/stuck/checkpoints").glob("step-*")
    return sorted(int(re.sub(r"\..*", "", path.name.removeprefix("step-"))) for path in folders)


def _manifests(home: Path) -> list[dict[str, Any]]:
    folders = sorted((home / "runs/stuck/checkpoints").glob("step-*"))
    return [json.loads((folder / "manifest.json").read_text()) for folder in folders]


def _steps_lost_at_most(manifest: dict[str, Any]) -> int:
    """Copies take at most 1% of the time: three steps on a machine with nothing else to do, 100 copies' time on others."""
    return max(3, 2 + math.ceil(100 * manifest["extra"]["copy_s"] / STEP_S))


def _copied(said: str, manifest: dict[str, Any], trained_s: float) -> bool:
    """Whether the stuck step's beginning was copied. Where it was not, 1% of the time allowed no copy, and that is said."""
    if re.search(r"the copy of step \d+ is being saved|step \d+ is saved already", said):
        return True
    assert "there is no copy of an earlier step, so only the last checkpoint is left" in said
    assert 100 * manifest["extra"]["copy_s"] > trained_s / 2
    return False


def _begun(output: str) -> int:
    """The last step that the script said it began."""
    return int(re.findall(r"^step (\d+)\s*$", output, re.MULTILINE)[-1])


@pytest.mark.parametrize(
    "how",
    ["lock", *(pytest.param(how, marks=pytest.mark.faults) for how in ("system call", "python loop"))],
)
def test_a_hang_leaves_the_last_boundary(tmp_path: Path, box_s: float, start_s: float, how: str) -> None:
    """A step stuck in this way leaves a checkpoint of its beginning, the stacks of all threads, and no process."""
    done = _run(tmp_path, how, box_s)
    assert done.returncode == 0, done.stderr
    attempt = _record(tmp_path)["attempts"][0]
    assert attempt["outcome"] == "timeboxed"
    assert _ended_in_time(attempt, box_s, start_s)
    assert _begun(done.stdout) - _steps_saved(tmp_path)[-1] <= _steps_lost_at_most(_manifests(tmp_path)[-1])
    stacks = (tmp_path / "runs/stuck/attempts/1/stacks.txt").read_text()
    assert "hanging_script.py" in stacks
    assert "hang" in stacks
    _copied(done.stderr, _manifests(tmp_path)[-1], HANGS_AT * STEP_S)


@pytest.mark.long
def test_a_loop_that_keeps_the_interpreter_leaves_the_periodic_checkpoint(
    tmp_path: Path, box_s: float, start_s: float
) -> None:
    """A C loop that never lets go of the interpreter lock is killed in time, and the last periodic checkpoint is there."""
    done = _run(tmp_path, "c loop", box_s)
    assert done.returncode == 0, done.stderr
    commits_s = (
        1.0  # the governor commits the copy of the dead process's last boundary before it writes the end down
    )
    assert _ended_in_time(_record(tmp_path)["attempts"][0], box_s + commits_s, start_s)
    assert _steps_saved(tmp_path)


def test_without_a_governor_the_block_is_left_when_the_step_returns(tmp_path: Path) -> None:
    """A step of 4 s near the end of a box costs that step: its beginning is saved before the deadline."""
    environment = _environment(tmp_path)
    command = [sys.executable, str(SCRIPT), "slow", str(BEFORE_S), f"{UNGOVERNED_S}s"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=True)
    assert "left: timeboxed" in done.stdout
    (run,) = (tmp_path / "runs").iterdir()
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "timeboxed"
    saved = sorted((run / "checkpoints").glob("step-*"))[-1]
    manifest = json.loads((saved / "manifest.json").read_text())
    if not _copied(done.stderr, manifest, UNGOVERNED_S - BEFORE_S):
        return
    begun = _begun(done.stdout)
    assert begun - _steps_lost_at_most(manifest) <= manifest["step"] <= begun
    assert manifest["slack_s"] > 0
    assert "is dropped: the state before it is saved" in done.stderr
