"""Processes that train one model together in a time box of the script's own stop together, and come back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_torch.on_two_ranks import made, train, trained
from tests.backprop_torch.two_ranks import STEPS

SCRIPT = "tests.backprop_torch.two_ranks"

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize(
    ("kind", "at", "rank"),
    [
        pytest.param("explicit", "11", "1", marks=pytest.mark.faults),
        pytest.param("explicit", "8", "0", marks=pytest.mark.faults),
        pytest.param("private_generator", "7", "0", marks=pytest.mark.faults),
        pytest.param("steps", "9", "1", marks=pytest.mark.faults),
    ],
)
def test_ranks_stop_after_the_same_step_and_resume_exactly(
    tmp_path: Path, kind: str, at: str, rank: str
) -> None:
    """A SIGTERM to either rank stops both with one checkpoint; each finds its samples and random numbers again."""
    for words in (("whole",), ("cut", at, rank), ("cut",)):
        trained(SCRIPT, tmp_path, kind, *words)
    for number in (0, 1):
        whole, first, second = (
            made(tmp_path, f"{name}-{number}") for name in ("whole-0", f"cut-{at}", "cut-0")
        )
        assert first["outcome"] == "preempted"
        assert int(at) <= len(first["seen"]) < len(whole["seen"])
        assert second["outcome"] == "completed"
        assert first["seen"] == whole["seen"][: len(first["seen"])]
        assert (
            second["seen"] == whole["seen"]
        )  # it is on a class of the script's, so what the first had seen came back
        assert first["run"] == second["run"] == "cut"
        for what in ("drawn", "weights", "optimizer", "scheduler"):
            assert second[what] == whole[what], what
    assert len(made(tmp_path, f"cut-{at}-0")["seen"]) == len(made(tmp_path, f"cut-{at}-1")["seen"])
    assert made(tmp_path, "whole-0-0")["seen"] != made(tmp_path, "whole-0-1")["seen"]
    assert made(tmp_path, "whole-0-0")["optimizer"] == made(tmp_path, "whole-0-1")["optimizer"]


@pytest.mark.faults
def test_a_place_that_was_missed_is_said_and_sets_no_rank_apart(tmp_path: Path) -> None:
    """Fewer passes before the training than there were: no rank takes a step back alone, and the lost place is said once."""
    trained(SCRIPT, tmp_path, "looked_at_once", "cut", "4", "1")
    resumed = train(SCRIPT, tmp_path, "looked_at_once", "cut")
    assert resumed.returncode == 0, resumed.stderr[-5000:]
    assert resumed.stderr.count("the interrupted epoch starts over") == 1
    first, second = made(tmp_path, "cut-0-0"), made(tmp_path, "cut-0-1")
    assert first["optimizer"] == second["optimizer"]
    assert first["outcome"] == second["outcome"] == "completed"


@pytest.mark.faults
def test_another_number_of_processes_goes_on_and_is_told_that_the_order_is_another(tmp_path: Path) -> None:
    """Models and optimizers go on where the first rank was; that bits are not promised is said once."""
    trained(SCRIPT, tmp_path, "steps", "cut", "5", "1")
    alone = train(SCRIPT, tmp_path, "steps", "cut", launcher=())
    assert alone.returncode == 0, alone.stderr
    assert alone.stderr.count("was made by 2 processes and now there are 1") == 1
    cut, rest = made(tmp_path, "cut-5-0"), made(tmp_path, "cut-0-0")
    assert rest["seen"][: len(cut["seen"])] == cut["seen"]  # on a class of the script's, so it came back
    assert len(rest["seen"]) == STEPS
    assert rest["outcome"] == "completed"


@pytest.mark.faults
def test_a_generator_of_the_loaders_own_is_dealt_anew_to_more_processes(tmp_path: Path) -> None:
    """One process, whose loader has a generator, goes on as two: this ended with an error of zip's. It is said once."""
    trained(SCRIPT, tmp_path, "private_generator", "cut", "7", "0", launcher=())
    both = train(SCRIPT, tmp_path, "private_generator", "cut")
    assert both.returncode == 0, both.stderr[-5000:]
    assert both.stderr.count("was made by 1 processes and now there are 2") == 1, both.stderr[-5000:]
    first, second = made(tmp_path, "cut-0-0"), made(tmp_path, "cut-0-1")
    assert first["outcome"] == second["outcome"] == "completed"
    assert first["weights"] == second["weights"]


@pytest.mark.long
def test_a_box_before_the_processes_know_each_other_is_refused(tmp_path: Path) -> None:
    """Each rank would stop at another step: one sentence says what to call before the box."""
    ended = train(SCRIPT, tmp_path, "explicit", "unknown")
    assert ended.returncode != 0
    assert "This is one of 2 processes (WORLD_SIZE)" in ended.stderr
    assert "init_process_group before the time box" in ended.stderr
