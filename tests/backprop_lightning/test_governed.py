"""A Lightning script under `backprop run`, with nothing of backprop in it but the callback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.backprop_torch.cutting import environment

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "digits_lightning.py"

pytestmark = pytest.mark.timeout(900)


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `backprop`, or python itself, in an environment of its own."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def last_line(text: str) -> str:
    return next(line for line in reversed(text.splitlines()) if "digest" in line)


def record(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "home/runs/digits/run.json").read_text())
    return loaded


@pytest.mark.long
def test_a_script_is_stopped_in_time_and_resumed_to_the_same_bits(tmp_path: Path) -> None:
    """`backprop run` ends it early with status 0, `backprop resume` completes it, and the digest is the uncut run's."""
    work = ["--epochs", "6", "--pause", "0.02"]
    whole = command(tmp_path, str(SCRIPT), "--epochs", "6", "--budget", "1h")
    assert whole.returncode == 0, whole.stderr[-3000:]
    # the import of Lightning takes seconds, and is in the budget
    first = command(
        tmp_path, "-m", "backprop_cli", "run", "-m", "10", "--run-id", "digits", "--no-wait",
        "--min-free-ram", "0.1", "-p", "64",
        str(ROOT / "tests/backprop_lightning/stopping_script.py"), "--", *work,
    )  # fmt: skip
    assert first.returncode == 0, first.stderr[-3000:]
    assert record(tmp_path)["status"] in ("stopped", "preempted", "timeboxed"), first.stderr[-3000:]
    assert "digest" not in first.stdout  # the process ends where fit would have returned
    second = command(
        tmp_path, "-m", "backprop_cli", "resume", "digits", "--no-wait", "--min-free-ram", "0.1", "-p", "64"
    )
    assert second.returncode == 0, second.stderr[-3000:]
    assert record(tmp_path)["status"] == "completed"
    assert last_line(second.stdout) == last_line(whole.stdout)
    entry = json.loads((tmp_path / "home/experiments.json").read_text())["digits"]
    assert entry["lastStep"] == 282
    assert entry["lastLoss"] > 0
