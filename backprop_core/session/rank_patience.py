"""How long a process waits for another one of its training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from backprop_core import contract
from backprop_core.clock import Clock
from backprop_core.deadline.budget import DEFAULT_BUDGET_S, parse_duration
from backprop_core.session.settings import SessionSettings

LOOK_EVERY_S = 0.25
"""How often a process that waits looks whether it should go on waiting."""
LOOKS = 40
"""So many looks it waits beyond the instant at which all should be over: ten seconds.

Looks are counted and no seconds, because whoever was held from outside (SIGSTOP, a laptop's lid) has waited for nobody.
"""


class Patience:
    """Lasts until `is_past` was true at so many looks in a row."""

    def __init__(self, is_past: Callable[[], bool], looks: int = LOOKS) -> None:
        self._is_past = is_past
        self._most = looks
        self._looks = 0

    def lasts(self) -> bool:
        """Asked at each look, while a process waits."""
        self._looks = self._looks + 1 if self._is_past() else 0
        return self._looks < self._most


def until_it_opens(settings: SessionSettings, clock: Clock) -> Patience:
    """Of a process that waits for the first one to open the box: as long as the box may last, and no longer."""
    return Patience(lambda: True, int(_budget_s(settings, clock) / LOOK_EVERY_S) + LOOKS)


def _budget_s(settings: SessionSettings, clock: Clock) -> float:
    if settings.until is not None:
        return max(0.0, settings.until.timestamp() - clock.wall())
    with suppress(ValueError):
        if told := settings.environ.get(contract.BUDGET_S):
            return float(told)
    return DEFAULT_BUDGET_S if settings.budget is None else parse_duration(settings.budget)
