"""A callback that strikes at a given moment."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from tests.backprop_transformers.cutting import strike


class Striking(TrainerCallback):
    """Counts steps and batches of evaluations, and asks the box to stop in the `at`-th."""

    def __init__(self, at: int | None, how: str, callback: Any) -> None:
        self.at, self.how, self.callback = at, how, callback
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == self.at:
            strike(self.how, self.callback)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.tick()

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        self.tick()
