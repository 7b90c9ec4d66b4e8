"""A logger that keeps what is logged, and a callback that strikes at a given moment."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tests.backprop_lightning.cutting import strike
from tests.backprop_lightning.recipes import PACKAGE, pl
from tests.noted import Noted
from tests.striking import Strikes

Logger = import_module(f"{PACKAGE}.loggers.logger").Logger


class WitnessLogger(Logger):  # type: ignore[misc,valid-type]
    """Keeps every (step, metrics) in order."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = Noted()
        self.ended: list[str] = []

    @property
    def seen(self) -> list[Any]:
        """What this process has logged."""
        return list(self._seen)

    @property
    def name(self) -> str:
        return "witness"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._seen.append([step, dict(sorted(metrics.items()))])

    def finalize(self, status: str) -> None:
        self.ended.append(status)


class Striking(Strikes, pl.Callback):  # type: ignore[misc,name-defined]
    """Counts training and validation batches, and asks the box to stop in the `at`-th, or at the `hook` behind it."""

    def __init__(self, at: int | None, how: str, callback: Any, hook: str = "") -> None:
        super().__init__()
        self.strikes(lambda: strike(how, callback), at, hook)

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self.tick()

    def on_validation_batch_start(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if not trainer.sanity_checking:
            self.tick()

    def on_validation_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if not trainer.sanity_checking:
            self.called("on_validation_end")

    def on_train_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        self.called("on_train_epoch_end")

    def on_train_epoch_start(self, *args: Any, **kwargs: Any) -> None:
        self.called("on_train_epoch_start")
