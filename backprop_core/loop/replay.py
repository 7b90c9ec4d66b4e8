"""Passes over data that can be found again: a framework's loader where it knows one, else any iterable by replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from backprop_core.loop.index_position import pass_over
from backprop_core.loop.loop_state import LoopState
from backprop_core.ports.loaders import LoaderReading


class ReplayedReading:
    """Any iterable: the items that were trained are made again and thrown away.

    The random generators are set to where they were when the pass began, so that an iterable that shuffles with them
    gives the same items again, and to where they were at the boundary afterwards.
    """

    caveat = ""
    batch_size: int | None = None

    def __init__(self, items: Iterable[Any], loop_state: LoopState) -> None:
        self._items = items
        self._loop_state = loop_state
        self._before: Any = None
        self.length = _length(items)

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        if saved is not None:
            self._loop_state.set_randomness(saved)
        self.note_start()
        iterator = iter(self._items)
        pass_over(iterator, skip)
        if saved is not None and resume_randomness is not None:
            iterator = iterator if skip else begun(iterator)
            resume_randomness()
        return iterator

    def note_start(self) -> None:
        """A pass begins now, whoever begins it."""
        self._before = self._loop_state.randomness()

    def position(self, *, midway: bool) -> Any:
        return self._before


def begun(iterator: Iterator[Any]) -> Iterator[Any]:
    """The same items, the first of them fetched already: what an iterator draws when it begins is drawn now."""
    return looked_into(iterator)[0]


def looked_into(iterator: Iterator[Any]) -> tuple[Iterator[Any], bool]:
    """The same items, and whether there are none."""
    first = list(islice(iterator, 1))
    return chain(_given_away(first), iterator), not first


def _given_away(items: list[Any]) -> Iterator[Any]:
    """Each of `items`, which are not kept."""
    while items:
        yield items.pop(0)


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except (TypeError, NotImplementedError):
        return None


def open_reading(loader: Iterable[Any], loop_state: LoopState, *, replay: bool) -> LoaderReading:
    """The best way to read `loader` with a position."""
    for framework in loop_state.frameworks:
        reading = framework.reading(loader, loop_state, replay=replay)
        if reading is not None:
            return reading
    return ReplayedReading(loader, loop_state)
