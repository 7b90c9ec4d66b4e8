"""How long steps and talks of the first rank take, measured at its boundaries."""

from __future__ import annotations

from collections import deque

_JUDGED = 5
"""A talk is taken to cost the median of so many: one of them may have waited for a rank that was late."""


class TalkTimes:
    """Told the time at each boundary, whether the ranks talk at it or not.

    Attributes:
        mean_step_s: of the steps between the last two talks; 0 while it is not known.
        longest_s: of those since the last talk; 0 while none is known.
        waited_s: for other ranks since the last boundary at which something was decided.
    """

    def __init__(self) -> None:
        self.mean_step_s = self.longest_s = self.waited_s = 0.0
        self._began = 0.0
        self._talked_at: float | None = None
        self._passed_at: float | None = None
        self._took_s: deque[float] = deque(maxlen=_JUDGED)

    def passes(self, now: float) -> None:
        """A boundary is reached."""
        if self._passed_at is not None:
            self.longest_s = max(self.longest_s, now - self._passed_at)
        self._passed_at = now

    def begins(self, now: float, steps: int) -> None:
        """A talk begins, so many steps after the last one."""
        if self._talked_at is not None and steps:
            self.mean_step_s = (now - self._talked_at) / steps
        self._began = now

    def ends(self, now: float) -> None:
        """A talk is over, and training goes on."""
        self.longest_s = 0.0
        self._talked_at = self._passed_at = now

    def was_quiet(self, now: float) -> None:
        """Nothing was done in the talk that is over now."""
        self.took(now - self._began)

    def took(self, seconds: float) -> None:
        """A talk took so long, without what was saved in it."""
        self._took_s.append(seconds)

    def talk_s(self) -> float:
        """What a talk takes; 0 while none is known."""
        judged = sorted(self._took_s)
        return judged[len(judged) // 2] if judged else 0.0
