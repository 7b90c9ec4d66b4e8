"""The step at which a training will end is told from the loops that run, or not at all."""

from __future__ import annotations

from backprop_core.loop.planned_steps import steps_at_end
from backprop_core.loop.running_loop import RunningLoop
from backprop_core.script_state.rewrite import Site


def loop(index: int, length: int | None, *, trains: bool = True, steps_before: int = 0) -> RunningLoop:
    site = Site("key", "train.py:1", trains=trains)
    return RunningLoop(site, index=index, length=length, steps_before=steps_before)


def test_all_epochs_are_counted_from_inside_and_between_them() -> None:
    """In the second of four epochs of ten batches, and behind it, the end is at 40; behind another training, later."""
    assert steps_at_end([loop(2, 4), loop(5, 10)], 15) == 40
    assert steps_at_end([loop(2, 4)], 20) == 40
    assert steps_at_end([loop(2, 4, steps_before=100), loop(5, 10)], 115) == 140


def test_accumulated_batches_are_no_steps() -> None:
    """A step every fourth batch: 16 of 64 batches took 4 steps."""
    assert steps_at_end([loop(16, 64)], 4) == 16


def test_nothing_is_told_where_a_loop_does_not_know_its_length() -> None:
    """`while` loops, evaluations, and a training that has not stepped yet say nothing."""
    assert steps_at_end([loop(3, None), loop(2, 5)], 7) is None
    assert steps_at_end([loop(1, 4), loop(2, 5, trains=False)], 7) is None
    assert steps_at_end([loop(0, 4)], 0) is None
    assert steps_at_end([], 3) is None
