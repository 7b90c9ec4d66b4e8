"""The processes that a script leaves behind: none of them outlives its time."""

from __future__ import annotations

import signal
from collections.abc import Callable

from backprop_core.clock import Clock
from backprop_core.governor import kernel
from backprop_core.governor.tree import Family

LEFTOVER_PATIENCE_S, LEFTOVER_GRACE_S = 0.3, 0.7
"""Seconds that left-over processes get to go by themselves, and then after SIGTERM."""
KILLING_LOOKS = 4
"""Half seconds that SIGKILL gets. A process that a driver holds may need longer; it is not waited for."""
MOST_LOOKS = 10_000
"""Zombies that nobody reaps must not hold the end up for ever."""


class Leftovers:
    """Ends them.

    Args:
        family: the script's processes.
        wait: waits for so many seconds, and serves what comes meanwhile.
        deadline: the monotonic instant by which the script must be gone, as it stands.

    Attributes:
        gone_at: the monotonic instant at which none was left.
    """

    def __init__(
        self, family: Family, clock: Clock, wait: Callable[[float], None], deadline: Callable[[], float]
    ) -> None:
        self._family = family
        self._clock = clock
        self._wait = wait
        self._deadline = deadline
        self.gone_at = clock.monotonic()

    def end(self, *, killed: bool, grace_s: float) -> tuple[str, ...]:
        """End them; the command lines of those that did not go by themselves.

        Args:
            killed: the script was killed, so nobody gets time.
            grace_s: seconds between asking and killing.
        """
        self.gone_at = self._clock.monotonic()
        left = self._wait_for_family(0.0)
        if left and not killed:
            left = self._wait_for_family(LEFTOVER_PATIENCE_S)
        if not left:
            return ()
        names = tuple(map(kernel.command_line, sorted(left)))
        if not killed:
            self._family.signal_all(signal.SIGTERM)
            self._wait_for_family(grace_s)
        for _ in range(KILLING_LOOKS):
            self._family.kill()
            if not self._wait_for_family(0.5, beyond_deadline=True):
                break
        self.gone_at = self._clock.monotonic()
        return names

    def _wait_for_family(self, patience_s: float, *, beyond_deadline: bool = False) -> set[int]:
        """Those alive after at most `patience_s`, or fewer when the deadline is nearer."""
        now = self._clock.monotonic()
        end = now + patience_s
        if not beyond_deadline:
            end = min(end, max(self._deadline() - 0.05, now))
        for _ in range(MOST_LOOKS):
            alive, zombies = self._family.look()
            if not (alive or zombies) or (alive and self._clock.monotonic() >= end):
                return alive
            self._wait(0.02 if alive else 0.0)
        return alive
