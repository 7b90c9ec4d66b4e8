"""Finding back through loops in loops."""

from __future__ import annotations

import pytest

from backprop_core.loop.loop_position import Cursor, CursorMismatch, frames_from_state, frames_to_state


def _reopened(cursor: Cursor) -> Cursor:
    return Cursor.resumed(frames_from_state(frames_to_state(cursor.saved_frames())))


def test_the_interrupted_loop_starts_at_its_index_and_the_one_around_it_enters_the_same_iteration() -> None:
    """A boundary of the inner loop: its own index is what is over, the outer one is in the middle of its iteration."""
    cursor = Cursor()
    epochs = cursor.begin("epochs").frame
    epochs.index = 3
    batches = cursor.begin("batches").frame
    batches.index = 7
    cursor.boundary = batches
    again = _reopened(cursor)
    assert again.begin("epochs").frame.index == 2
    entry = again.begin("batches")
    assert entry.frame.index == 7
    assert entry.arrived


def test_a_loop_that_was_over_yields_nothing() -> None:
    """After a finished pass the next loop in the same epoch is the one that begins."""
    cursor = Cursor()
    cursor.begin("epochs").frame.index = 1
    cursor.end(cursor.begin("batches").frame)
    again = _reopened(cursor)
    again.begin("epochs")
    entry = again.begin("batches")
    assert entry.over
    assert entry.arrived
    assert not again.begin("batches").over


def test_a_waiting_loop_above_the_boundary_has_given_what_it_gave() -> None:
    """A loader read with next() inside box.steps begins behind the item that is used, as the first loop of the iteration."""
    cursor = Cursor()
    steps = cursor.begin("steps").frame
    steps.index = 5
    cursor.end(cursor.begin("batches").frame)
    batches = cursor.begin("batches").frame
    batches.index = 2
    cursor.moved_on(steps)
    cursor.boundary = steps
    again = _reopened(cursor)
    assert again.begin("steps").arrived
    entry = again.begin("batches")
    assert entry.saved is not None
    assert entry.saved.waiting
    assert entry.frame.index == 2


def test_other_loops_than_in_the_checkpoint_are_refused() -> None:
    """Another kind of loop, or none where one was interrupted."""
    cursor = Cursor()
    cursor.begin("epochs").frame.index = 1
    cursor.boundary = cursor.begin("batches").frame
    with pytest.raises(CursorMismatch):
        _reopened(cursor).begin("steps")
    again = _reopened(cursor)
    epochs = again.begin("epochs").frame
    with pytest.raises(CursorMismatch):
        again.moved_on(epochs)


@pytest.mark.parametrize(
    "state", [[{"kind": 1}], [{"kind": "epochs", "ordinal": -1, "index": 0, "ended": 0}]]
)
def test_a_state_that_is_no_position_is_refused(state: list[dict[str, object]]) -> None:
    """Positions from a checkpoint are checked before they are used."""
    with pytest.raises(ValueError, match="not a loop position"):
        frames_from_state(state)
