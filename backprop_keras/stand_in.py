"""What stands in for a PyDataset of the script's: it is as long, and tells it of the epochs."""

from __future__ import annotations

from typing import Any

import keras


class StandInDataset(keras.utils.PyDataset):  # type: ignore[misc]
    """A PyDataset that hands on everything but its batches.

    Attributes:
        behind: the script's.
    """

    def __init__(self, behind: Any) -> None:
        super().__init__(behind.workers, behind.use_multiprocessing, behind.max_queue_size)
        self.behind = behind

    @property
    def num_batches(self) -> int | None:
        number = self.behind.num_batches
        return None if number is None else int(number)

    def on_epoch_begin(self) -> None:
        self.behind.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.behind.on_epoch_end()
