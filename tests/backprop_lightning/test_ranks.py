"""Two processes that train together stop together, and come back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_torch.on_two_ranks import TORCHRUN, made, trained

SCRIPT = "tests.backprop_lightning.two_ranks"

pytestmark = pytest.mark.timeout(900)


def test_ranks_stop_after_the_same_step_and_resume_exactly(tmp_path: Path) -> None:
    """A SIGTERM to the second rank stops both with one checkpoint; each finds its own samples and random numbers again."""
    trained(SCRIPT, tmp_path, "whole", launcher=())  # Lightning starts the second process itself
    trained(SCRIPT, tmp_path, "cut", "11", "1", launcher=())
    trained(SCRIPT, tmp_path, "cut", launcher=TORCHRUN)
    for rank in (0, 1):
        whole, first, second = (made(tmp_path, f"{name}-{rank}") for name in ("whole-0", "cut-11", "cut-0"))
        assert first["outcome"] == "preempted"
        assert 11 <= first["step"] < 24
        assert second["outcome"] == "completed"
        assert first["seen"] + second["seen"] == whole["seen"]
        assert first["logged"] + second["logged"] == whole["logged"]
        assert second["weights"] == whole["weights"]
        assert first["run"] == second["run"] == "cut"
    assert made(tmp_path, "cut-11-0")["step"] == made(tmp_path, "cut-11-1")["step"]
