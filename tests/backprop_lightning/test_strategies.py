"""A strategy whose ranks hold different parts of the state is refused before the first step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
