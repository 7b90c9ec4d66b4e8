"""Processes that train one Trainer's model together stop together, and come back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_torch.on_two_ranks import made, train, trained

SCRIPT = "tests.backprop_transformers.two_ranks"

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize(
    ("recipe", "at", "rank"),
    [
        pytest.param("evaluation_in_epoch", "6", "1", marks=pytest.mark.faults),
        pytest.param("stream", "2", "1", marks=pytest.mark.faults),
        pytest.param("noise_in_data", "3", "0", marks=pytest.mark.faults),
    ],
)
def test_ranks_stop_after_the_same_step_and_resume_exactly(
    tmp_path: Path, recipe: str, at: str, rank: str
) -> None:
    """A SIGTERM to either rank stops both with one checkpoint; each finds its samples, sums and random numbers again."""
    for words in (("whole", recipe), ("cut", recipe, at, rank), ("cut", recipe)):
        trained(SCRIPT, tmp_path, *words)
    for number in (0, 1):
        whole, first, second = (
            made(tmp_path, f"{name}-{number}") for name in ("whole-0", f"cut-{at}", "cut-0")
        )
        assert first["outcome"] == "preempted"
        assert 1 <= first["step"] < whole["step"]
        assert second["outcome"] == "completed"
        assert first["seen"] + second["seen"] == whole["seen"]
        assert first["run"] == second["run"] == "cut"
        for what in ("step", "logged", "loss", "weights", "optimizer", "drawn"):
            assert second[what] == whole[what], what
    assert made(tmp_path, f"cut-{at}-0")["step"] == made(tmp_path, f"cut-{at}-1")["step"]
    assert made(tmp_path, "whole-0-0")["seen"] != made(tmp_path, "whole-0-1")["seen"]


@pytest.mark.faults
def test_another_number_of_processes_is_refused_with_one_sentence(tmp_path: Path) -> None:
    """Trainer's steps and epochs would mean something else: nothing is trained, and the checkpoint stays for two."""
    trained(SCRIPT, tmp_path, "cut", "noise_in_data", "2", "1")
    alone = train(SCRIPT, tmp_path, "cut", "noise_in_data", launcher=())
    assert alone.returncode == 2, alone.stderr
    assert "was made by 2 processes and now there are 1" in alone.stderr
    assert "torchrun --nproc-per-node 2" in alone.stderr
    assert not list(tmp_path.glob("cut-0-*.json"))
