"""A callback that strikes at a given moment."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from tests.backprop_transformers.cutting import strike

_PROCESS: dict[str, Any] = {}
"""What belongs to this process: attributes of a callback would come back from the checkpoint."""


class Striking(TrainerCallback):
    """Counts steps and batches of evaluations, and asks the box to stop in the `at`-th, or where the next `hook` is called.

    Attributes:
        hooked: how many had been counted at each call of that hook.
    """

    def __init__(self, at: int | None, how: str, callback: Any, hook: str = "") -> None:
        self.at, self.how, self.callback, self.hook = at, how, callback, hook
        _PROCESS.update(ticks=0, hooked=[], struck=False)

    @property
    def ticks(self) -> int:
        return int(_PROCESS["ticks"])

    @property
    def hooked(self) -> list[int]:
        return list(_PROCESS["hooked"])

    def tick(self) -> None:
        _PROCESS["ticks"] += 1
        if self.ticks == self.at and not self.hook:
            strike(self.how, self.callback)

    def called(self, hook: str) -> None:
        if hook != self.hook:
            return
        _PROCESS["hooked"].append(self.ticks)
        if self.at is not None and self.ticks >= self.at and not _PROCESS["struck"]:
            _PROCESS["struck"] = True
            strike(self.how, self.callback)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.tick()

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        self.tick()

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self.called("on_evaluate")

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        self.called("on_epoch_end")

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self.called("on_epoch_begin")
