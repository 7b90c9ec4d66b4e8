"""A Trainer script under `backprop run`, with nothing of backprop in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backprop_core.clock import SYSTEM
from tests.backprop_torch.cutting import environment

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "unmodified" / "text_transformers.py"
HERE = Path(__file__).parent

pytestmark = pytest.mark.timeout(900)


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `backprop`, or python itself, in an environment of its own."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment(folder) | {
            "BACKPROP_RUNTIME_DIR": str(folder / "runtime"),
            "BACKPROP_MIN_FREE_RAM": "0",
            "BACKPROP_GPU_PROBE": "none",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip


def last_line(text: str) -> str:
    return next(line for line in reversed(text.splitlines()) if "digest" in line).strip()


def record(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "home/runs/text/run.json").read_text())
    return loaded


@pytest.mark.long
def test_an_unmodified_script_is_stopped_in_time_and_resumed_to_the_same_bits(tmp_path: Path) -> None:
    """`backprop run` ends it early with status 0, `backprop resume` completes it, and the digest is the uncut run's."""
    work = ["--steps", "120"]
    whole = command(tmp_path, str(SCRIPT), *work)
    assert whole.returncode == 0, whole.stderr[-3000:]
    # the import of transformers takes seconds, and is in the budget
    script = str(HERE / "stopping_script.py")
    first = command(
        tmp_path,
        "-m",
        "backprop_cli",
        "run",
        "-m",
        "10",
        "--run-id",
        "text",
        "--no-wait",
        script,
        "--",
        *work,
    )
    assert first.returncode == 0, first.stderr[-3000:]
    assert record(tmp_path)["status"] in ("stopped", "preempted", "timeboxed"), first.stderr[-3000:]
    assert "digest" not in first.stdout  # the process ends where train would have returned
    second = command(tmp_path, "-m", "backprop_cli", "resume", "text", "--no-wait")
    assert second.returncode == 0, second.stderr[-3000:]
    assert record(tmp_path)["status"] == "completed"
    assert "resumed from step 6" in second.stderr + second.stdout
    assert last_line(second.stdout) == last_line(whole.stdout)


@pytest.mark.faults
def test_a_small_box_ends_in_time(tmp_path: Path) -> None:
    """It ends with status 0 and a checkpoint, and is called timeboxed; importing may take half of the box and more."""
    began = SYSTEM.monotonic()
    assert command(tmp_path, str(SCRIPT), "--steps", "1").returncode == 0
    minutes = (20.0 + 2 * (SYSTEM.monotonic() - began)) / 60
    script = [str(SCRIPT), "--", "--epochs", "5000"]
    words = ["run", "-m", f"{minutes:.3f}", "--run-id", "text", "--no-wait", *script]
    ended = command(tmp_path, "-m", "backprop_cli", *words)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert record(tmp_path)["status"] == "timeboxed", ended.stderr[-3000:]
    assert list((tmp_path / "home/runs/text/checkpoints").glob("step-*/manifest.json"))
