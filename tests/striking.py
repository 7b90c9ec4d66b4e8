"""Counts what a training does, and asks its box to stop at a given moment: what the adapters' callbacks for that share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_PROCESS: dict[str, Any] = {}
"""What belongs to this process: attributes of a callback would come back from the checkpoint."""


class Strikes:
    """Beside a framework's own class of callbacks.

    Attributes:
        hooked: how much had been counted at each call of the hook.
    """

    def strikes(self, strike: Callable[[], None], at: int | None, hook: str = "") -> None:
        """Call `strike` at the `at`-th tick, or where `hook` is called next after that."""
        self.at, self.hook = at, hook
        _PROCESS.update(ticks=0, hooked=[], struck=False, strike=strike)

    @property
    def ticks(self) -> int:
        return int(_PROCESS["ticks"])

    @property
    def hooked(self) -> list[int]:
        return list(_PROCESS["hooked"])

    def tick(self) -> None:
        _PROCESS["ticks"] += 1
        if self.ticks == self.at and not self.hook:
            _PROCESS["strike"]()

    def called(self, hook: str) -> None:
        if hook != self.hook:
            return
        _PROCESS["hooked"].append(self.ticks)
        if self.at is not None and self.ticks >= self.at and not _PROCESS["struck"]:
            _PROCESS["struck"] = True
            _PROCESS["strike"]()
