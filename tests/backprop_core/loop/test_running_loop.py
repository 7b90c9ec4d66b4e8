"""What people are told of the place in a script's loops."""

from __future__ import annotations

from backprop_core.loop.running_loop import RunningLoop, epoch_and_batch
from backprop_core.script_state.rewrite import Site


def _loop(index: int, *, stepped_inside: bool = False) -> RunningLoop:
    return RunningLoop(Site("", "", trains=True), index=index, stepped_inside=stepped_inside)


def test_a_lone_loop_counts_epochs_where_its_steps_are_another_loops() -> None:
    """Between two epochs only the outer loop runs: what it has counted are no batches."""
    assert epoch_and_batch([]) == (0, 0)
    assert epoch_and_batch([_loop(4)]) == (0, 4)
    assert epoch_and_batch([_loop(4, stepped_inside=True), _loop(7)]) == (3, 7)
    assert epoch_and_batch([_loop(4, stepped_inside=True)]) == (4, 0)
