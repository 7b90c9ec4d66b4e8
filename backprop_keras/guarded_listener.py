"""A listener of a `fit` whose faults do not reach Keras: with the first one it hears no more, and the training goes on."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from backprop_core.session.own_faults import OwnFaults
from backprop_keras.last_callback import FitListener


class GuardedListener:
    """Implements `FitListener` by another one."""

    def __init__(self, listener: FitListener, faults: OwnFaults) -> None:
        self._listener = listener
        self._faults = faults

    @property
    def skipping(self) -> bool:
        return self._listener.skipping and not self._faults.aside

    @skipping.setter
    def skipping(self, value: bool) -> None:
        self._listener.skipping = value

    def epoch_begun(self, epoch: int) -> None:
        self._faults.run(self._listener.epoch_begun, epoch)

    def batch_begun(self) -> None:
        self._faults.run(self._listener.batch_begun)

    def batch_ended(self, batch: int, logs: Any) -> None:
        self._faults.run(self._listener.batch_ended, batch, logs)

    def validation_begun(self) -> None:
        self._faults.run(self._listener.validation_begun)

    def validation_batch_ended(self) -> None:
        self._faults.run(self._listener.validation_batch_ended)

    def epoch_is_over(self, epoch: int) -> bool:
        return bool(self._faults.run(self._listener.epoch_is_over, epoch, otherwise=True))

    def epoch_ended(self, epoch: int) -> None:
        self._faults.run(self._listener.epoch_ended, epoch)

    def training_is_over(self) -> Any:
        return self._faults.run(self._listener.training_is_over, otherwise=nullcontext())

    def training_ended(self) -> None:
        self._faults.run(self._listener.training_ended)

    def abandoned(self) -> None:
        self._faults.run(self._listener.abandoned)
