"""The callback that cuts a training, and counts what it sees."""

from __future__ import annotations

from typing import Any

import keras

_CUTS: list[Any] = []
"""What belongs to this process: attributes of a callback would come back from the checkpoint."""


class Striker(keras.callbacks.Callback):  # type: ignore[misc]
    """Counts executions, epochs and validations, over all pieces, and strikes where its cut lies."""

    def __init__(self, cut: Any) -> None:
        super().__init__()
        _CUTS.append(cut)
        self._number = len(_CUTS) - 1

    @property
    def _cut(self) -> Any:
        return _CUTS[self._number]

    def _event(self, place: str) -> None:
        cut = self._cut
        if place == cut.place and cut.at is not None and cut.executions >= cut.at and not cut.struck:
            cut.strike()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._cut.executions += 1
        self._event("batch")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._cut.before_last_epoch = self._cut.executions
        self._event("epoch begin")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._cut.epochs_ended.append(epoch)
        self._event("epoch end")

    def on_test_begin(self, logs: Any = None) -> None:
        self._cut.validations += 1

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._event("validation")

    def on_test_end(self, logs: Any = None) -> None:
        self._event("test end")

    def state_dict(self) -> dict[str, int]:
        return {"executions": self._cut.executions}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._cut.executions = state["executions"]
