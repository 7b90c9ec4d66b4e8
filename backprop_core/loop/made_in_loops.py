"""What earlier iterations of the running loops have made: a process that resumes does not run them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backprop_core.loop.running_loop import RunningLoop
from backprop_core.loop.seen_objects import SeenObjects
from backprop_core.script_state.paths import Path, place_in


class MadeInLoops:
    """Tells such objects from those that the script makes again on the way to its place.

    Args:
        running: the loops that are running now, innermost last.
        between: whether it is between two iterations of the innermost now; else all of them have one that is not over.
        left: a loop that has just ended, if it is behind one.
    """

    def __init__(
        self,
        running: Callable[[], Sequence[RunningLoop]],
        between: Callable[[], bool],
        left: Callable[[], RunningLoop | None],
    ) -> None:
        self._running = running
        self._between = between
        self._left = left

    def has(self, value: object, holder: object = None) -> bool:
        """Whether an iteration that is over has made it, or put it into its `holder`."""
        return self.since(value, holder)[0] is not None

    def put_again(self, collection: object, steps: Path) -> object | None:
        """The first object behind `steps` in `collection` that the code on the way to the running loops puts there again.

        It lay there already when one of the loops began. What earlier iterations have made has to be asked of `has`.
        """
        left = self._left()
        begun = [*self._running(), *([] if left is None else [left])]
        found = (_lay_in(loop.there, collection, steps) for loop in begun if loop.there is not None)
        return next((one for one in found if one is not None), None)

    def trained_inside(self) -> bool:
        """Whether loops inside the running iteration have trained: what it made need not be there for the next."""
        running = self._running()
        return bool(running) and self._between() and running[-1].stepped_inside

    def since(self, value: object, holder: object = None) -> tuple[int | None, bool]:
        """Optimizer steps that had been seen when those iterations were over, and whether they are of the innermost loop.

        Of the innermost loop all iterations are over at a boundary, so there it is those before its first. None: it was
        there before, or the running iteration has made it.
        """
        running = self._running()
        between = self._between()
        for around in running[:-1] if between else running:
            before, then = around.there, around.at_entry
            if (
                before is not None
                and then is not None
                and then.surely_has(value)
                and not before.may_have(value)
            ):
                return around.updates_at_entry, False
        last = running[-1] if running and between else None
        if last is None or last.there is None or last.there.may_have(value, holder):
            return None, True
        return last.updates_before, True


def _lay_in(there: SeenObjects, holder: Any, steps: Path) -> object | None:
    for step in steps:
        if not there.looked_into(holder):
            return None
        try:
            number, value = place_in(holder, step)
        except LookupError:
            return None
        if not there.lay_in(holder, number, value):
            return None
        if there.surely_has(value):
            return value
        holder = value
    return None
