"""Steps a second, as far as they tell of the steps to come.

The first steps of many trainings are slow: compilation, a library that looks for its fastest kernel, a cold cache. A rate
over all steps would promise too few for a long time.
"""

from __future__ import annotations

FASTER = 1.5
"""A look so many times as fast as all before it: what went before was the slow beginning."""
LEAST_LOOKS = 2
KNOWN_AFTER = 0.02
"""The part of a box after which the rate counts as known,"""
KNOWN_AFTER_S = 20.0
"""and at most so many seconds."""


class StepRate:
    """Measured from look to look, about once a second.

    Args:
        budget_s: seconds of the box.

    Attributes:
        began: monotonic instant and number of steps at the first look; None before it.
        since: the same at the end of the slow beginning.
        per_s: steps a second since then; None before a second look.
    """

    def __init__(self, budget_s: float) -> None:
        self.began: tuple[float, int] | None = None
        self.since: tuple[float, int] | None = None
        self.per_s: float | None = None
        self._last: tuple[float, int] | None = None
        self._fastest = 0.0
        self._looks = 0
        self._known_after_s = min(KNOWN_AFTER * budget_s, KNOWN_AFTER_S)

    @property
    def known(self) -> bool:
        """Whether the rate is more than that of the slow beginning."""
        if self.since is None or self._last is None:
            return False
        return self._looks >= LEAST_LOOKS and self._last[0] - self.since[0] >= self._known_after_s

    def observe(self, now: float, steps: int) -> None:
        """So many steps were made up to the monotonic instant `now`."""
        last, self._last = self._last, (now, steps)
        if last is None or self.since is None:
            self.began = self.since = self._last
            return
        if now <= last[0]:
            return
        latest = (steps - last[1]) / (now - last[0])
        if self._fastest and latest > FASTER * self._fastest:
            self.since, self._looks = last, 0
        self._fastest = max(self._fastest, latest)
        self._looks += 1
        self.per_s = (steps - self.since[1]) / (now - self.since[0])
