"""Whether the machine, or the container, has memory to spare for a second copy of the state."""

from __future__ import annotations

from collections.abc import Callable

from backprop_core.clock import Clock

LEAST_SHARE, LEAST_BYTES, MOST_BYTES = 0.06, 512 << 20, 4 << 30
"""What has to stay free: this part of all, at least and at most so many bytes. Twice what a governor ends a run for."""
_SMALL_SHARE = 0.25
"""Of a small container no more than this has to stay free."""
LOOK_EVERY_S = 5.0

Read = Callable[[], tuple[int | None, int | None]]


class SpareMemory:
    """Looks at the free memory, now and then.

    Args:
        clock: the time.
        read: all of the memory and what is free of it, bytes; None where that is not known.
    """

    def __init__(self, clock: Clock, read: Read | None = None) -> None:
        self._clock = clock
        self._read = read
        self._looked_at = float("-inf")
        self.free_bytes = 0

    def is_short(self, needed_bytes: int = 0) -> bool:
        """Whether too little stays free when `needed_bytes` are taken. Where nothing is known there is enough."""
        self._looked_at = self._clock.monotonic()
        total, free = (self._read or self._of_host())()
        if total is None or free is None:
            return False
        self.free_bytes = free
        least = min(max(LEAST_SHARE * total, LEAST_BYTES), MOST_BYTES, _SMALL_SHARE * total)
        return free - needed_bytes < least

    def has_become_short(self) -> bool:
        """The same, looked at every few seconds; False in between."""
        return self._clock.monotonic() - self._looked_at >= LOOK_EVERY_S and self.is_short()

    def _of_host(self) -> Read:
        from backprop_core.resources.probes.host import Host  # late: most of what comes with it is for GPUs

        host = Host()

        def read() -> tuple[int | None, int | None]:
            sample = host.read()
            return sample.memory_total_bytes, sample.memory_free_bytes

        self._read = read
        return read
