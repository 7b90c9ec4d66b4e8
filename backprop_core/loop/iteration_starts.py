"""What is remembered of how loops and their iterations began, and of what loops left behind, in 1% of the time."""

from __future__ import annotations

from types import FrameType
from typing import Any

from backprop_core.clock import Clock
from backprop_core.loop.running_loop import RunningLoop
from backprop_core.loop.script_loop_state import ScriptLoopState

_SHARE = 0.01
"""Of an iteration's time, at most this part goes into remembering how it began."""


class IterationStarts:
    """Looks at the script where loops and iterations begin, and spends little on it.

    Args:
        proves: every loop and iteration is looked at, whatever it costs.
        among_ranks: every iteration is. Ranks come to the same boundaries, so none may find its own iterations too short.
    """

    def __init__(self, clock: Clock, *, proves: bool, among_ranks: bool) -> None:
        self._clock = clock
        self._proves = proves
        self._always = proves or among_ranks
        self._entry_s = 0.0
        self._look_s = self._looked_at = 0.0

    def loop_begins(
        self, loop: RunningLoop, around: RunningLoop | None, loop_state: ScriptLoopState, frame: FrameType
    ) -> None:
        """`loop` is about to make its iterable, in the running iteration of `around`.

        Where it was worth remembering how that iteration began, so it is what it has made before its first loop that trains.
        """
        loop.began = self._clock.monotonic()
        loop_state.loop_begins(loop)
        loop.updates_before = loop_state.found_objects.updates
        is_first = (
            around is not None and around.at_entry is not None and all(one.again for one in around.ended)
        )
        may_look = self._proves or self._look_s <= (loop.began - self._looked_at) * _SHARE
        if loop.site.trains and (may_look or is_first):
            loop.there = loop_state.values(frame)
            self._looked_at = self._clock.monotonic()
            self._look_s = self._looked_at - loop.began
            self._entry_s += self._look_s if is_first else 0.0

    def tick(self, loop: RunningLoop) -> float | None:
        """Seconds that the iteration of `loop` took that is over; None where the next is its first."""
        now = self._clock.monotonic()
        took_s, loop.since = now - loop.since if loop.since else None, now
        return took_s

    def iteration_begins(
        self,
        loop: RunningLoop,
        took_s: float | None,
        loop_state: ScriptLoopState,
        frame: FrameType,
        *,
        may_be_cut: bool,
    ) -> None:
        """The next iteration of `loop` begins, after one of `took_s`; one that may be cut is looked at whatever it costs."""
        loop.entry = loop.at_entry = None
        if took_s is None or self._always or may_be_cut or self._entry_s <= took_s * _SHARE:
            loop.entry = loop_state.entry(frame)
            self.look(loop, loop_state, frame)
            self._entry_s = self._clock.monotonic() - loop.since

    def look(self, loop: RunningLoop, loop_state: ScriptLoopState, frame: FrameType) -> None:
        """Remember what there is as an iteration of `loop` begins."""
        loop.at_entry = loop_state.values(frame)
        loop.updates_at_entry = loop_state.found_objects.updates

    def left_by(self, loop: RunningLoop, loop_state: ScriptLoopState, frame: FrameType) -> Any:
        """The state just behind `loop`: all of it where more training may follow, else the small variables, or None."""
        if loop.site.followed:
            return loop_state.effect(frame, loop)
        if self._proves or self._entry_s <= (self._clock.monotonic() - loop.began) * _SHARE:
            return loop_state.entry(frame)
        return None
