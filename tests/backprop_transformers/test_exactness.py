"""A Trainer's training cut into pieces gives the same bits as one that was never cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.backprop_transformers.cutting import run_pieces

QUICK = "own_state accumulation evaluation_in_epoch drawing_kept_workers"
"""What `make test` trains; `make test-long` those in LONG, and `make test-faults` all."""
OUT_OF_TURN = "drawing_out_of_turn"
LONG = (
    "plain two_workers noise_in_data stream own_optimizer many_evaluations own_methods accumulation@on_evaluate"
    " evaluation_in_epoch@on_epoch_end drawing_workers sequences plain@on_epoch_begin"
)
WITH_FAULTS = (
    "kept_workers by_length by_length_two_workers stream_two_workers bf16 by_steps stopped_early derived ordinary_module"
    f" drawing_accumulated drawing_spawned_workers {QUICK} {LONG}"
)
PARTS = ("seen", "logged", "step", "epoch", "weights", "optimizer", "scheduler", "counted", "loss")

pytestmark = pytest.mark.timeout(900)
"""The first test waits for all of the trainings, and other work may share the machine."""

_made: dict[str, dict[str, Any]] = {}


@pytest.fixture
def trained(names: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The recipes `names`, trained whole and in pieces, each piece in a fresh process."""
    if names not in _made:
        _made[names] = run_pieces(names.split(), tmp_path_factory.mktemp("exactness"))
    return _made[names]


def check(made: dict[str, Any]) -> None:
    whole, cut = made["whole"], made["cut"]
    assert whole["outcome"] == "completed"
    assert cut["outcomes"][-1] == "completed"
    assert len(cut["outcomes"]) > 1
    assert set(cut["outcomes"][:-1]) <= {"preempted", "stopped"}, cut["outcomes"]
    for part in PARTS:
        assert cut[part] == whole[part], f"{part} after cuts at {made['at']}"
    if (bare := made["bare"]) is not None:
        assert [whole[part] for part in PARTS] == [bare[part] for part in PARTS]
        assert not any(cut["said"])


@pytest.mark.parametrize(
    ("names", "name"),
    [
        *((f"{QUICK} {OUT_OF_TURN}", name) for name in QUICK.split()),
        *(pytest.param(LONG, name, marks=pytest.mark.long) for name in LONG.split()),
    ],
    ids=lambda word: word.split()[0],
)
def test_pieces_are_the_same_as_the_whole(trained: dict[str, dict[str, Any]], names: str, name: str) -> None:
    """Weights, optimizer, scheduler, all that is logged, the mean loss and the order of samples are the same."""
    check(trained[name])


@pytest.mark.parametrize("names", [f"{QUICK} {OUT_OF_TURN}"], ids=["quick"])
def test_batches_that_come_out_of_turn_are_named(trained: dict[str, dict[str, Any]], names: str) -> None:
    """Where nobody knows which batches are trained, each process that resumes says it, once."""
    first, *others = trained[OUT_OF_TURN]["cut"]["said"]
    assert not first
    assert [len(said) for said in others] == [1] * len(others)


@pytest.mark.long
def test_a_cut_in_the_evaluation_with_which_a_resume_begins(tmp_path: Path) -> None:
    """Workers that stay have been started then, and no pass has begun: its place is still that of the checkpoint."""
    check(
        run_pieces(["drawing_kept_workers"], tmp_path, at={"drawing_kept_workers": [11, 12]})[
            "drawing_kept_workers"
        ]
    )


@pytest.mark.faults
@pytest.mark.parametrize("draws", range(4))
def test_pieces_of_many_cuts_are_the_same(draws: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same for five cuts at other places of every recipe."""
    folder = tmp_path_factory.mktemp("cuts")
    for made in run_pieces(WITH_FAULTS.split(), folder, 5, str(draws)).values():
        check(made)
