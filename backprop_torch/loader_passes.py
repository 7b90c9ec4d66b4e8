"""Passes over loaders that a script begins by itself: who made an iterator, and how things stood when it was made."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import get_ident
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from backprop_core.loop.asked_iterators import Asked, asked_iterators, note_pass, planned
from backprop_core.ports import pass_position
from backprop_core.ports.loaders import LoaderReading, RandomnessKeeper
from backprop_core.weak_identity import WeakIdentityMap
from backprop_torch.accelerated import (
    AcceleratedReading,
    accelerated_behind,
    is_accelerated,
    is_read_by_index,
)
from backprop_torch.dataloader_state import StockLoaderReading as StockReading
from backprop_torch.dataloader_state import generators_of, restore_start
from backprop_torch.held_batch import MadeAhead
from backprop_torch.loader_facts import cycle_of
from backprop_torch.patched_loader import put_back_init_subclass
from backprop_torch.reader_threads import ReaderThreads
from backprop_torch.stateful_reading import StatefulReading
from backprop_torch.staying_workers import note_end_of_pass, note_workers, start_noted_workers
from backprop_torch.threads_ahead import ThreadsAhead
from backprop_torch.worker_states import made_noting

_TORCHDATA = "torchdata.stateful_dataloader.stateful_dataloader"
_BEGIN_THEMSELVES = ("accelerate.data_loader", _TORCHDATA)


class TorchLoaderPasses:
    """Remembers for each iterator of a DataLoader how its pass began. Implements the port `LoaderPasses`.

    Args:
        reading: how a loader is read with a position.
    """

    def __init__(self, reading: Callable[[object, RandomnessKeeper], LoaderReading | None]) -> None:
        self._reading = _replayed(reading)
        self._begun: WeakIdentityMap[tuple[Any, LoaderReading]] = WeakIdentityMap()
        self._owner = os.getpid()
        self._inside: set[int] = set()
        self._watched = False
        self._threads = ReaderThreads(self.made_by)
        self.threads: ThreadsAhead = ThreadsAhead(self._threads, self._reading, self.remember)

    @contextmanager
    def watch(self, randomness: RandomnessKeeper) -> Iterator[None]:
        """Inside, every pass that begins is remembered."""
        self._threads.trains_here()
        if self._watched:
            yield
            return
        self._watched = True
        kinds = [DataLoader, *_loaders_of_packages()]
        originals = [(kind, vars(kind)["__iter__"]) for kind in kinds if "__iter__" in vars(kind)]
        replaced = []
        for kind, original in originals:
            mine = self._noting(original, randomness)
            setattr(kind, "__iter__", mine)  # noqa: B010 - not a method mypy may see assigned
            replaced.append(mine)
        before = vars(DataLoader).get("__init_subclass__")

        def init_subclass(kind: type[DataLoader[Any]], /, **kwargs: Any) -> None:
            super(DataLoader, kind).__init_subclass__(**kwargs)
            if kind.__module__ == _TORCHDATA and "__iter__" in vars(kind):  # most import it after torch
                original = vars(kind)["__iter__"]
                originals.append((kind, original))
                replaced.append(self._noting(original, randomness))
                setattr(kind, "__iter__", replaced[-1])  # noqa: B010

        setattr(DataLoader, "__init_subclass__", classmethod(init_subclass))  # noqa: B010
        iterators = (
            _BaseDataLoaderIter  # a name of this frame: the interpreter takes the module's away at its end
        )
        next_batch = iterators.__next__
        mine_next = self._noting_first(next_batch)
        setattr(iterators, "__next__", mine_next)  # noqa: B010
        try:
            yield
        finally:
            self._watched = False
            self._threads.close()
            put_back_init_subclass(before)
            if iterators.__next__ is mine_next:
                setattr(iterators, "__next__", next_batch)  # noqa: B010
            for (kind, original), mine in zip(originals, replaced, strict=True):
                if vars(kind).get("__iter__") is mine:
                    setattr(kind, "__iter__", original)  # noqa: B010

    def _noting(self, original: Callable[[Any], Any], randomness: RandomnessKeeper) -> Callable[[Any], Any]:
        passes = self

        def begin_pass(loader: Any) -> Any:
            here = get_ident()
            if here in passes._inside or os.getpid() != passes._owner:
                return original(loader)
            if passes._threads.is_elsewhere():
                passes._threads.pass_begins()
            asking = asked_iterators().asking(sys._getframe(1))
            plan = planned(asking)
            making = partial(made_noting, original)
            passes._inside.add(here)
            try:
                if plan is None:
                    start_noted_workers(loader)
                    reading, iterator = passes._noted(loader, randomness), making(loader)
                else:
                    after_others = any(record.begun for record in asking)
                    reading, iterator = passes._begun_as(
                        loader, randomness, making, plan, after_others=after_others
                    )
                note_workers(loader)
            finally:
                passes._inside.discard(here)
            if reading is not None:
                if isinstance(reading, StockReading):
                    reading.make = partial(making, loader)
                    reading.follow(iterator)
                elif isinstance(reading, AcceleratedReading):
                    reading.watch(iterator)
                passes._begun[iterator] = (loader, reading)
                passes.remember(iterator, loader, reading)
                note_pass(asking, reading)
                if asking and isinstance(reading, StockReading | StatefulReading) and not loader.num_workers:
                    reading.made = MadeAhead(partial(_asks_of, asking[-1]))
                    reading.made.restore(None if plan is None or plan[1] else plan[0].get("made"))
            return iterator

        begin_pass.__wrapped__ = original  # type: ignore[attr-defined]
        return begin_pass

    def _begun_as(
        self,
        loader: Any,
        randomness: RandomnessKeeper,
        original: Callable[[Any], Any],
        plan: tuple[Any, int],
        *,
        after_others: bool,
    ) -> tuple[LoaderReading | None, Any]:
        """The pass of an earlier attempt, behind its first batches.

        Args:
            after_others: the generator that it begins in has begun other passes before it.
        """
        position, skip = plan
        reading = self._reading(loader, randomness)
        if reading is None:
            return None, original(loader)
        if skip:
            return reading, reading.begin(position, skip, lambda: None)
        with generators_of(loader).resuming():
            start_as(loader, randomness, position, after_others=after_others)
            reading.note_start()
            return reading, original(loader)

    def _noting_first(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def next_batch(iterator: Any) -> Any:
            if self._threads.is_elsewhere():
                return self._threads.fetch(original, iterator)
            begun = self._begun.get(iterator)
            if begun is not None and os.getpid() == self._owner:
                reading = begun[1]
                if isinstance(reading, StockReading):
                    reading.note_batch(iterator._num_yielded)
                if isinstance(reading, StockReading | StatefulReading) and reading.made is not None:
                    return reading.made.fetched(original(iterator))
                try:
                    return original(iterator)
                except StopIteration:
                    note_end_of_pass(begun[0])
                    raise
            return original(iterator)

        return next_batch

    def _noted(self, loader: Any, randomness: RandomnessKeeper) -> LoaderReading | None:
        try:
            reading = self._reading(loader, randomness)
            if reading is not None:
                reading.note_start()
        except Exception:  # a loader of a kind nobody has seen: its batches come again from the first on
            return None
        return reading

    def made_by(self, iterator: object) -> tuple[Any, LoaderReading] | None:
        """The loader that made `iterator`, and the reading that knows how its pass began."""
        return self._begun.get(iterator)

    def waits(self, iterator: object) -> Any | None:
        """The loader of accelerate's that is behind `iterator`; any other has begun its pass when its iterator is there."""
        return accelerated_behind(iterator)

    def given_by(self, iterator: object) -> int | None:
        """Batches that `iterator` has given; None where it does not count them."""
        if not issubclass(
            type(iterator), _BaseDataLoaderIter
        ):  # nothing of the script's is asked for anything
            return None
        if self._threads.reads(iterator):  # it is kept with what that thread has made ahead
            return None
        given = getattr(iterator, "_num_yielded", None)
        if not isinstance(given, int):
            return None
        begun = self._begun.get(iterator)
        return given - begun[1].behind if begun is not None and isinstance(begun[1], StockReading) else given

    def remember(self, iterator: object, loader: object, reading: LoaderReading) -> None:
        """`iterator` was made of `loader` by somebody who knows how its pass began."""
        if isinstance(iterator, _BaseDataLoaderIter):
            if isinstance(reading, StockReading):
                reading.cycle = cycle_of(loader, iterator)
            self._begun[iterator] = (loader, reading)

    def is_loader(self, source: object) -> bool:
        """Whether it is a loader whose passes are remembered, and not a subclass that begins them in a way of its own."""
        if is_accelerated(source):
            return is_read_by_index(source)
        known = isinstance(source, DataLoader) and hasattr(type(source).__iter__, "__wrapped__")
        return known and not callable(
            getattr(source, "load_state_dict", None)
        )  # its word is not all: it is replayed


def start_as(loader: Any, randomness: RandomnessKeeper, position: Any, *, after_others: bool = False) -> None:
    """The next pass of `loader` begins as the one whose position this is; `after_others` as in `restore_start`."""
    start = pass_position.start_from_state(position)
    restore_start(loader, randomness, generators_of(loader), start, after_others=after_others)


def _replayed(
    reading: Callable[[object, RandomnessKeeper], LoaderReading | None],
) -> Callable[[object, RandomnessKeeper], LoaderReading | None]:
    """Passes that a script begins by itself go on from their beginning: a loader's own word on its place is not all."""

    def read(loader: object, randomness: RandomnessKeeper) -> LoaderReading | None:
        found = reading(loader, randomness)
        if isinstance(found, StatefulReading):
            found.by_state = False
        return found

    return read


def _asks_of(record: Asked) -> int:
    return record.asks


def _loaders_of_packages() -> list[type]:
    """Those that begin their passes without asking DataLoader to: accelerate's and torchdata's."""
    modules = [module for name in _BEGIN_THEMSELVES if (module := sys.modules.get(name)) is not None]
    return [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, DataLoader) and kind is not DataLoader
    ]


_shared: TorchLoaderPasses | None = None
_open = ExitStack()


def shared_passes(
    reading: Callable[[object, RandomnessKeeper], LoaderReading | None],
) -> TorchLoaderPasses:
    """Those of this process."""
    global _shared
    if _shared is None:
        _shared = TorchLoaderPasses(reading)
    return _shared


def watch_from_the_start(reading: Callable[[object, RandomnessKeeper], LoaderReading | None]) -> None:
    """Remember passes that begin before the first training loop does: `batches = iter(loader)`."""
    _open.enter_context(shared_passes(reading).watch(_Randomness()))


class _Randomness:
    """All global generators, of whatever frameworks are loaded when it is asked."""

    def _keeper(self) -> RandomnessKeeper:
        from backprop_core.loop.loop_state import LoopState
        from backprop_core.ports.framework import frameworks_in_use

        return LoopState(frameworks_in_use())

    def randomness(self) -> dict[str, object]:
        return self._keeper().randomness()

    def set_randomness(self, states: Any) -> None:
        self._keeper().set_randomness(states)
