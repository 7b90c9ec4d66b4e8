"""The callback that cuts a training, and counts what it sees."""

from __future__ import annotations

from typing import Any

import keras


class Striker(keras.callbacks.Callback):  # type: ignore[misc]
    """Counts executions, epochs and validations, over all pieces, and strikes where its cut lies."""

    def __init__(self, cut: Any) -> None:
        super().__init__()
        self._cut = cut

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._cut.executions += 1
        if self._cut.executions == self._cut.at and not self._cut.in_validation:
            self._cut.strike()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._cut.epochs_ended.append(epoch)

    def on_test_begin(self, logs: Any = None) -> None:
        self._cut.validations += 1

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        cut = self._cut
        if cut.in_validation and cut.at is not None and cut.executions >= cut.at and not cut.struck:
            cut.strike()

    def state_dict(self) -> dict[str, int]:
        return {"executions": self._cut.executions}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._cut.executions = state["executions"]
