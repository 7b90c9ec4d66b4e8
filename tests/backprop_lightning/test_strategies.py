"""A strategy whose ranks hold different parts of the state is refused before the first step, never restored in silence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import with_environment
from tests.backprop_torch.cutting import environment

SCRIPT = Path(__file__).with_name("sharded_fit.py")


@pytest.mark.timeout(300)
def test_a_sharded_strategy_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """The box of a script's own raises before any step: checkpoints held one rank's shards, and nothing came back."""
    refused = subprocess.run(
        [sys.executable, str(SCRIPT), "box"], env=environment(tmp_path), capture_output=True, text=True, check=False
    )  # fmt: skip
    assert refused.returncode != 0
    (said,) = [line for line in refused.stderr.splitlines() if "errors.UsageError: " in line]
    assert "ModelParallelStrategy cannot be saved and resumed yet" in said
    assert "trained" not in refused.stdout


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_an_unmodified_one_trains_to_its_end_and_that_nothing_is_saved_is_said(backprop: CommandLine) -> None:
    """No other adapter takes Lightning's loop over, either: that ended the training after two steps."""
    with_environment(backprop, OMP_NUM_THREADS="1")
    done = backprop("run", "-m", "4", str(SCRIPT))
    assert done.returncode == 0, done.stderr
    assert "trained 20 steps" in done.stdout
    assert done.stderr.count("ModelParallelStrategy cannot be saved and resumed yet") == 1
    assert "framework" not in backprop.record(backprop.runs()[0]["id"])["attempts"][0]["measured"]
