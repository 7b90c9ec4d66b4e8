"""The best way to read what a box's loop goes over: a framework's loader where it knows one, else any iterable by replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from types import GeneratorType
from typing import Any, Final
from weakref import ref

from backprop_core.loop.asked_iterators import asked_iterators
from backprop_core.loop.asked_state import AskedState
from backprop_core.loop.loop_state import LoopState
from backprop_core.loop.replay import ReplayedReading
from backprop_core.loop.sources import generator_of
from backprop_core.ports.loaders import LoaderPasses, LoaderReading

_ASKED: Final = "asked"


class AskedReading(ReplayedReading):
    """A generator, or an iterable that is written as one: the passes over loaders inside it begin as they did, the batches
    that it has fetched ahead come again as they were, and so does what it has drawn on the way.
    """

    def __init__(self, items: Iterable[Any], loop_state: LoopState, passes: Sequence[LoaderPasses]) -> None:
        super().__init__(items, loop_state)
        self._passes = passes
        self._asked = AskedState(passes, loop_state.translators)
        self._generator: Callable[[], Any] = lambda: None

    def _behind(self, saved: Any | None, skip: int) -> Iterator[Any]:
        watches = ExitStack()
        for passes in self._passes:
            watches.enter_context(passes.watch(self._loop_state))
        generator = iter(self._items)
        self._generator = ref(generator)
        items = asked_iterators().counted(generator)
        asked = saved.get(_ASKED) if isinstance(saved, Mapping) else None
        if asked is not None:
            self._asked.arm(generator, asked)
        next(islice(items, skip - 1, skip), None) if skip else None
        if asked is not None and skip and (trouble := self._asked.settle(generator, asked)):
            self.caveat = f"The batches after this resume are others than they would have been: {trouble}."
        return _closing(items, watches)

    def position(self, *, midway: bool) -> Any:
        generator = self._generator()
        asked = None if generator is None or midway else self._asked.state_of(generator)
        return {**super().position(midway=midway), _ASKED: asked}


def _closing(items: Iterator[Any], watches: ExitStack) -> Iterator[Any]:
    with watches:
        yield from items


def open_reading(loader: Iterable[Any], loop_state: LoopState, *, replay: bool) -> LoaderReading:
    """The best way to read `loader` with a position."""
    for framework in loop_state.frameworks:
        reading = framework.reading(loader, loop_state, replay=replay)
        if reading is not None:
            return reading
    found = (framework.loader_passes() for framework in loop_state.frameworks)
    passes = [one for one in found if one is not None]
    if type(loader) is GeneratorType or generator_of(loader) is not loader:
        return AskedReading(loader, loop_state, passes)
    return ReplayedReading(loader, loop_state)
