"""Batches that were made ahead of training: which of them are kept, and how those of a prefetcher are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from backprop_core.checkpoints.codec import capture
from backprop_torch.framework import TorchFramework
from backprop_torch.held_batch import HeldBatch, MadeAhead, batch_from_state


class Own:
    """A batch of the script's."""


def _held(batch: Any) -> HeldBatch:
    held = HeldBatch()
    held.hold(batch)
    return held


def test_a_batch_of_plain_kinds_comes_back_as_it_was() -> None:
    """Its tensors are new ones, with the same numbers; collections and keys keep their types."""
    x = torch.arange(4.0)
    batch = {"x": x, 3: (1, 2.5, None, "text", b"bytes"), "deep": [{"mask": torch.ones(2, dtype=torch.bool)}]}
    back: Any = batch_from_state(_held(batch).to_state())
    assert back[3] == batch[3]
    assert type(back[3]) is tuple
    assert torch.equal(back["x"], x)
    assert back["x"] is not x
    assert back["deep"][0]["mask"].dtype is torch.bool
    assert batch_from_state(_held([np.arange(3)]).to_state())[0].tolist() == [0, 1, 2]


def test_a_batch_with_an_object_of_the_scripts_is_named() -> None:
    """It has no form, and what a resume does instead is said; one of plain kinds behind it takes that back."""
    held = _held({"x": torch.ones(1), "of": Own()})
    assert held.to_state() is None
    assert "`the batch fetched ahead` (Own) may change" in str(held.unkept()[0])
    held.hold(torch.ones(1))
    assert held.to_state() is not None
    assert not held.unkept()
    assert _held(torch.ones(2).to_sparse()).to_state() is None
    itself: list[Any] = []
    itself.append(itself)
    assert _held(itself).to_state() is None


def test_a_batch_that_was_dropped_is_not_kept() -> None:
    """The pass is over."""
    held = _held(torch.ones(1))
    held.drop()
    assert held.to_state() is None
    assert not held.unkept()


def _pass(depth: int, items: int) -> MadeAhead:
    """A reader that has `depth` batches in hand when it gives one, asked so often."""
    asked, fetched = [1], 0
    made = MadeAhead(lambda: asked[0])
    for number in range(1, items + 1):
        asked[0] = number
        while fetched < number + depth:
            made.fetched(torch.tensor(fetched))
            fetched += 1
    return made


def test_what_a_prefetcher_has_in_hand_is_kept() -> None:
    """None where it gives each batch at once, those in between where it holds some, none of a reader that collects."""
    assert _pass(0, 5).to_state() is None
    for depth in (1, 3):
        state = _pass(depth, 5).to_state()
        assert state is not None
        assert state["first"] == 5
        assert [int(batch_from_state(one)) for one in state["batches"]] == list(range(5, 5 + depth))
    assert _pass(40, 2).to_state() is None


def test_a_pass_that_begins_anew_gives_the_kept_batches_in_their_places() -> None:
    """Those before are as they are made; those that were kept stand for the same ones, made once more."""
    state = _pass(2, 3).to_state()
    again = MadeAhead(lambda: 1)
    again.restore(state)
    assert [int(again.fetched(torch.tensor(-1))) for _ in range(6)] == [-1, -1, -1, 3, 4, -1]


def test_a_kept_batch_goes_through_the_codec() -> None:
    """Its form is one that a checkpoint holds."""
    translators = [TorchFramework().translator]
    form = _held({"x": torch.arange(3), "n": [1, (2, "a")]}).to_state()
    snapshot = capture({"loader": form}, translators)
    assert snapshot.nbytes == 24
