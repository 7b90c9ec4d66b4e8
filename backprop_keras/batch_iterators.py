"""Iterators of training batches that tell what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from backprop_core.session.proof import recorder_of
from backprop_keras.backends import active


def seen(items: Any) -> Any:
    """For a proof each batch is noted when the train function asks for it."""
    recorder = recorder_of()
    return items if recorder is None else iter(active().noted(items, recorder))


class TellsFirst:
    """An iterator that tells when its first item is asked for."""

    def __init__(self, iterator: Iterator[Any], asked_first: Callable[[], None]) -> None:
        self._iterator = iterator
        self._asked_first: Callable[[], None] | None = asked_first

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._asked_first is not None:
            asked_first, self._asked_first = self._asked_first, None
            asked_first()
        return next(self._iterator)
