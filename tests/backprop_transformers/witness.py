"""A callback that strikes at a given moment."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from tests.backprop_transformers.cutting import strike
from tests.striking import Strikes


class Striking(Strikes, TrainerCallback):
    """Counts steps and batches of evaluations, and asks the box to stop in the `at`-th, or at the `hook` behind it."""

    def __init__(self, at: int | None, how: str, callback: Any, hook: str = "") -> None:
        self.strikes(lambda: strike(how, callback), at, hook)

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
