"""Counts what a training does, and asks its box to stop at a given moment: what the adapters' callbacks for that share."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

_PROCESS = ModuleType("process")
"""What belongs to this process: attributes of a callback would come back from the checkpoint."""


class Strikes:
    """Beside a framework's own class of callbacks.

    Attributes:
        hooked: how much had been counted at each call of the hook.
    """

    def strikes(self, strike: Callable[[], None], at: int | None, hook: str = "") -> None:
        """Call `strike` at the `at`-th tick, or where `hook` is called next after that."""
        self.at, self.hook = at, hook
        vars(_PROCESS).update(ticks=0, hooked=[], struck=False, strike=strike)

    @property
    def ticks(self) -> int:
        return int(vars(_PROCESS)["ticks"])

    @property
    def hooked(self) -> list[int]:
        return list(vars(_PROCESS)["hooked"])

    def tick(self) -> None:
        vars(_PROCESS)["ticks"] += 1
        if self.ticks == self.at and not self.hook:
            vars(_PROCESS)["strike"]()

    def called(self, hook: str) -> None:
        if hook != self.hook:
            return
        vars(_PROCESS)["hooked"].append(self.ticks)
        if self.at is not None and self.ticks >= self.at and not vars(_PROCESS)["struck"]:
            vars(_PROCESS)["struck"] = True
            vars(_PROCESS)["strike"]()
