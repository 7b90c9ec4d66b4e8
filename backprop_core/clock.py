"""The only file of backprop that reads the time or waits for it.

Durations are measured on a monotonic clock; wall time is for showing and for fixed deadlines. Everything else takes a
`Clock` as an argument, which is what lets ten thousand simulated runs pass in seconds.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """A source of time. `monotonic` and `wall` are seconds."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary instant; never goes back; the same instant for all processes of one boot."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01 00:00 UTC; may jump."""
        ...

    def asleep_s(self) -> float:
        """Seconds for which the machine has been suspended so far, where it tells; `monotonic` stood still then."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """Wait until `event` is set or `timeout_s` is over; True if it is set."""
        ...


class SystemClock:
    """The machine's own clock. On Linux and macOS `monotonic` is shared by all processes since boot."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def asleep_s(self) -> float:
        since_boot = getattr(
            time, "CLOCK_BOOTTIME", None
        )  # Linux: what CLOCK_MONOTONIC counts, and the time asleep
        return 0.0 if since_boot is None else time.clock_gettime(since_boot) - time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        return event.wait(None if timeout_s is None else max(0.0, timeout_s))


SYSTEM = SystemClock()


def utc_text(wall_s: float) -> str:
    """An instant as `2026-11-23T15:42:48Z`, for file names and records."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_s))


def local_text(wall_s: float) -> str:
    """An instant as `2026-11-23 15:42:48` in the local time zone, for people."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall_s))
    except (OverflowError, ValueError, OSError):  # a file may hold any number
        return "an unknown time"
