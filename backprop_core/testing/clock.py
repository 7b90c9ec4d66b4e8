"""A clock that only moves when told to."""

from __future__ import annotations

import threading

_POLL_S = 0.001  # of real time, in a thread that waits for fake time


class FakeClock:
    """Time for tests: `advance` moves it, and so does `sleep`.

    The origin is deliberately odd, so that code which reads the real clock by mistake shows.
    """

    def __init__(self, monotonic_s: float = 7_531.25, wall_s: float = 1_700_000_000.0) -> None:
        self._monotonic_s = monotonic_s
        self._wall_s = wall_s
        self._asleep_s = 12.5  # before the test, and of no interest

    def monotonic(self) -> float:
        return self._monotonic_s

    def wall(self) -> float:
        return self._wall_s

    def asleep_s(self) -> float:
        return self._asleep_s

    def suspend(self, seconds: float) -> None:
        """The machine is suspended for so long: the monotonic clock stands still."""
        self._wall_s += seconds
        self._asleep_s += seconds

    def advance(self, seconds: float) -> None:
        """Move both clocks on by `seconds`."""
        self._monotonic_s += seconds
        self._wall_s += seconds

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock by `seconds` without time passing, as NTP or a person does."""
        self._wall_s += seconds

    def sleep(self, seconds: float) -> None:
        self.advance(max(0.0, seconds))

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """In the main thread time passes until the timeout; another thread waits until the main thread moves time."""
        if threading.current_thread() is threading.main_thread():
            if not event.is_set() and timeout_s is not None:
                self.advance(max(0.0, timeout_s))
            return event.is_set()
        until_s = float("inf") if timeout_s is None else self._monotonic_s + timeout_s
        while not event.is_set() and self._monotonic_s < until_s:
            event.wait(_POLL_S)
        return event.is_set()
