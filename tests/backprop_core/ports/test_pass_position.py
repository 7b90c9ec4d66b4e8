"""Positions of passes as checkpoints hold them: every form is read, the oldest of each too, and written as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from backprop_core.ports import pass_position as forms
from backprop_core.ports.pass_position import Draws, PassPosition

START: dict[str, Any] = {"global": "G", "own": "O", "stayed": True, "epoch": 4, "seed": 9}
OLDEST_START = {"global": "G", "own": [], "stayed": False}
BEGUN = PassPosition(Draws("G", "O"), workers_kept=True, sampler_epoch=4, sampler_seed=9)
NOW: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
    "stock": (forms.read_from_state, forms.read_to_state, {**START, "asked": "A"}),
    "not asked yet": (forms.read_from_state, forms.read_to_state, START),
    "stateful": (forms.stateful_from_state, forms.stateful_to_state, {**START, "loader": {"at": 3}}),
    "stateful with an iterator": (
        forms.stateful_from_state,
        forms.stateful_to_state,
        {**START, "premade": {"at": 0}, "loader": {"at": 3}},
    ),
    "accelerate": (
        forms.accelerated_from_state,
        forms.accelerated_to_state,
        {**START, "iteration": 2, "newest": {"draws": {}}, "held": None},
    ),
    "watched": (
        forms.watched_from_state,
        forms.watched_to_state,
        {"yielded": 5, "before": START, "asked": {"global": "A", "own": "B"}, "rest": "R", "newest": None,
         "held": None},
    ),
    "lightning": (
        forms.lightning_from_state,
        forms.lightning_to_state,
        {"before": {"global": "G", "own": "O"}, "first": {"global": "A", "own": "B"}, "kept_workers": True, "yielded": 5,
         "rest": "R", "state": None, "workers": "W"},
    ),
    "transformers": (
        forms.transformers_from_state,
        forms.transformers_to_state,
        {"start": START, "ahead": 1, "before": "N", "own_before": {"draws": {}}, "held": None},
    ),
    "keras": (
        forms.keras_from_state,
        forms.keras_to_state,
        {"seen": 4, "opening": {"python": "P", "loader": "O"}, "first": {"python": "Q", "loader": "B"}},
    ),
    "keras between epochs": (
        forms.keras_from_state,
        forms.keras_to_state,
        {"seen": 0, "opening": None, "first": None},
    ),
}  # fmt: skip
OLDEST: dict[str, tuple[Callable[..., PassPosition], Mapping[str, Any], PassPosition]] = {
    "stock": (forms.read_from_state, OLDEST_START, PassPosition(Draws("G", []))),
    "accelerate": (
        forms.accelerated_from_state,
        {**OLDEST_START, "iteration": 2},
        PassPosition(Draws("G", []), number=2),
    ),
    "watched": (
        forms.watched_from_state,
        {"signature": "Points:40:4:RandomSampler", "yielded": 5, "before": OLDEST_START},
        PassPosition(Draws("G", []), given=5),
    ),
    "lightning": (
        forms.lightning_from_state,
        {
            "before": {"global": "G", "own": []},
            "first": None,
            "kept_workers": False,
            "yielded": 0,
            "state": None,
        },
        PassPosition(Draws("G", []), given=0),
    ),
    "transformers": (
        forms.transformers_from_state,
        {"start": OLDEST_START, "ahead": 1, "before": "N"},
        PassPosition(Draws("G", []), prefetched=1, newest=Draws("N")),
    ),
}


@pytest.mark.parametrize("name", NOW)
def test_what_is_read_is_written_as_it_was(name: str) -> None:
    """A checkpoint of today goes through the one form and comes out with the same names and values."""
    read, write, saved = NOW[name]
    assert write(read(saved)) == saved


@pytest.mark.parametrize("name", OLDEST)
def test_the_oldest_checkpoints_are_read(name: str) -> None:
    """What a first version did not write is as if it had not been noted."""
    read, saved, position = OLDEST[name]
    assert read(saved) == position


def test_one_fact_has_one_name() -> None:
    """The same pass is the same position, whichever adapter stored it."""
    assert forms.start_from_state(START) == BEGUN
    assert (
        forms.watched_from_state(NOW["watched"][2]).begun
        == forms.lightning_from_state(NOW["lightning"][2]).begun
    )
    assert forms.transformers_from_state(NOW["transformers"][2]).begun == BEGUN.begun


def test_a_pass_of_another_kind_of_loader_is_refused() -> None:
    """A stateful loader, or accelerate's, does not take the position of a stock loader for its own."""
    for read in (forms.stateful_from_state, forms.accelerated_from_state):
        with pytest.raises(KeyError):
            read(START)
