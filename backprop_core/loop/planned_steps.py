"""How many steps a training will have had at its end, as far as the loops that run can tell."""

from __future__ import annotations

from collections.abc import Sequence

from backprop_core.loop.running_loop import RunningLoop


def steps_at_end(running: Sequence[RunningLoop], step: int) -> int | None:
    """The step at which the outermost of the `running` loops ends, if the rest of it takes steps as often as so far.

    Args:
        running: the loops between two iterations of the innermost, the outermost first.
        step: training steps taken until now, in earlier attempts too.

    Returns:
        None where a loop does not know its length, or no step has been taken in them yet.
    """
    share = 0.0
    for loop in reversed(running):
        if not loop.length or not loop.site.trains:
            return None
        over = loop.index if loop is running[-1] else loop.index - 1
        share = (over + share) / loop.length
    if not share or running[0].steps_before is None or step <= running[0].steps_before:
        return None
    return running[0].steps_before + round((step - running[0].steps_before) / share)
