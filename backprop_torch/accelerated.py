"""Passes over loaders that Hugging Face accelerate has prepared.

Such a loader holds an ordinary one, fetches a batch ahead of the one it gives, to know the last, and counts its passes,
which seeds samplers that are seeded by pass.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain, islice
from types import GeneratorType
from typing import Any
from weakref import ref

from torch.utils.data import IterableDataset

from backprop_core.loop.replay import begun
from backprop_core.ports import pass_position
from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.pass_position import PassPosition
from backprop_torch.dataloader_state import (
    generators_of,
    pass_start,
    restore_start,
)
from backprop_torch.held_batch import HeldBatch, batch_from_state
from backprop_torch.loader_facts import loader_batch_size, loader_length
from backprop_torch.loader_skip import iterator_behind, skipping
from backprop_torch.pass_workers import PassWorkers
from backprop_torch.worker_states import WorkersGoOn, workers_between_passes

_MODULE = "accelerate.data_loader"
_CAVEAT = (
    "The order of the batches is exact. Random numbers drawn while a batch is loaded (augmentation) are not, because "
    "accelerate's loader fetches one batch ahead: box.batches(loader, replay=True) makes them exact without workers."
)


def is_accelerated(loader: object) -> bool:
    """Whether accelerate has prepared `loader`; it calls itself a DataLoader."""
    return type(loader).__module__ == _MODULE and hasattr(loader, "base_dataloader")


def is_read_by_index(loader: Any) -> bool:
    """Whether the loop over this loader of accelerate's can begin in the middle without its first batches."""
    inner = loader.base_dataloader
    return (
        type(loader).__name__ == "DataLoaderShard"
        and not loader.skip_batches
        and not isinstance(inner.dataset, IterableDataset)
        and not callable(getattr(inner, "load_state_dict", None))
    )


def accelerated_behind(iterator: object) -> Any | None:
    """The loader of accelerate's over which `iterator` will begin a pass when it is first asked; None: it is none such."""
    if type(iterator) is not GeneratorType or inspect.getgeneratorstate(iterator) != inspect.GEN_CREATED:
        return None
    frame = iterator.gi_frame
    loader = None if frame is None else frame.f_locals.get("self")
    begins = getattr(type(loader), "__iter__", None)
    known = getattr(begins, "__code__", None) is iterator.gi_code and is_accelerated(loader)
    return loader if known and is_read_by_index(loader) else None


def fetched_ahead() -> int:
    """How many batches the code keeps back that asks an ordinary loader for an iterator now."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("backprop_"):
        frame = frame.f_back
    return int(frame.f_globals.get("__name__") == _MODULE)


class AcceleratedReading:
    """One pass over an accelerated loader.

    The batch that is fetched ahead is kept: making it may change anything in the script. One that cannot be stored is made
    again, under the state of the loader's own parts from before it was made. Workers make theirs again: where they were
    before it is known.

    Args:
        replay: batches that are already trained are loaded again and thrown away, rather than skipped by index.
    """

    def __init__(self, loader: Any, randomness: RandomnessKeeper, *, replay: bool = False) -> None:
        self._loader = loader
        self._randomness = randomness
        self._generators = generators_of(loader)
        stateful = callable(
            getattr(loader.base_dataloader, "load_state_dict", None)
        )  # it counts what it skips
        self._by_index = not (replay or stateful or isinstance(loader.dataset, IterableDataset))
        self._start: PassPosition | None = None
        self._newest: Any = None
        self._batches: Callable[[], Any] = lambda: None
        self._kept: Any = None
        self._unmoved: Any = None
        self.length, self.batch_size = loader_length(loader), loader_batch_size(loader)
        self._workers = PassWorkers(loader.base_dataloader, replay=not self._by_index)
        self._made_under_others = False

    @property
    def caveat(self) -> str:
        """What cannot come back: random numbers of a batch that is made again, or of workers that are not known."""
        if self._made_under_others:
            return _CAVEAT
        return self._workers.caveat

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        if saved is None:
            self.note_start()
            return self._noting(self._followed(self._begun()))
        with self._generators.resuming():
            return self._resumed(pass_position.accelerated_from_state(saved), skip, resume_randomness)

    def _resumed(
        self, before: PassPosition, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        loader = self._loader
        loader.set_epoch(before.number)
        restore_start(loader.base_dataloader, self._randomness, self._generators, before)
        self.note_start()
        number = before.number if skip else None
        held = batch_from_state(before.held) if skip else None
        self._newest = before.newest
        has_workers = loader.base_dataloader.num_workers > 0
        go_on = self._workers.resumed(before, skip, self.length, later=True)
        if has_workers and self._by_index and skip:
            self._unmoved = before.workers
            if resume_randomness is not None:
                resume_randomness()
            return self._noting(self._behind_workers(before, go_on, skip), number)
        if held is not None and self._by_index:
            self._kept = before.held
            if resume_randomness is not None:
                resume_randomness()
            return self._noting(self._behind_held(before, held, skip), number)
        if held is not None:
            with _begun_by(loader.base_dataloader, lambda batches: _with(batches, skip, held)):
                iterator = self._begun()
                next(islice(iterator, skip - 1, skip), None)
            if resume_randomness is not None:
                resume_randomness()
            return self._noting(iterator, number)
        self._made_under_others = self._by_index and skip not in (0, self.length)
        return self._noting(self._made_again(before, skip, resume_randomness), number)

    def _begun(self) -> Iterator[Any]:
        iterator: Iterator[Any] = iter(self._loader)
        self.watch(iterator)
        return iterator

    def watch(self, iterator: Any) -> None:
        """`iterator` is what goes over the loader."""
        self._batches = ref(iterator)

    def _followed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same batches; the workers that make them are noted."""
        inner = self._loader.base_dataloader
        if not inner.num_workers:
            return batches
        return self._begun_later(batches, _begun_by(inner, self._with_workers))

    def _begun_later(self, batches: Iterator[Any], inside: AbstractContextManager[None]) -> Iterator[Any]:
        with inside:
            batches = begun(batches)
        yield from batches

    def _with_workers(self, batches: Iterator[Any]) -> Iterator[Any]:
        self._workers.follow(batches)
        return batches

    def _behind_held(self, before: PassPosition, held: Any, skip: int) -> Iterator[Any]:
        """The batch that was made ahead comes first. What is made when it is asked for is made behind the boundary, so the
        place is not looked for before.
        """
        yield from self._behind(before, lambda batches: chain([held], batches), skip + 1)

    def _behind_workers(self, before: PassPosition, go_on: WorkersGoOn, skip: int) -> Iterator[Any]:
        """The same where the worker whose turn it was makes that batch again, before what is made behind the boundary."""

        def made_ahead(batches: Iterator[Any]) -> Iterator[Any]:
            return begun(self._with_workers(batches))

        yield from self._behind(before, made_ahead, skip, go_on)

    def _behind(
        self,
        before: PassPosition,
        made_ahead: Callable[[Iterator[Any]], Iterator[Any]],
        skip: int,
        workers: Callable[[], None] = lambda: None,
    ) -> Iterator[Any]:
        inner = self._loader.base_dataloader
        now, own = self._randomness.randomness(), self._generators.capture()

        def there(batches: Iterator[Any]) -> Iterator[Any]:
            batches = made_ahead(batches)
            self._randomness.set_randomness(now)
            self._generators.restore(own)
            return batches

        restore_start(inner, self._randomness, self._generators, before)
        with _begun_by(inner, there, skip, workers):
            iterator = self._begun()
            batches = begun(iterator)
        self._kept = self._unmoved = None
        yield from batches

    def _made_again(
        self, before: PassPosition, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        loader = self._loader
        again = self._generators.lacks_more(before.newest)
        by_index = (
            self._by_index and skip > 1 and not again
        )  # the first batch is loaded together with the second
        newest = None if loader.base_dataloader.num_workers else before.newest

        def before_newest() -> None:
            self._generators.restore_before_batch(newest)

        with skipping(loader.base_dataloader, skip, before_newest) if by_index else nullcontext():
            iterator = self._followed(self._begun())
            if not by_index and skip:
                next(islice(iterator, skip - 1, skip), None)
            asked = skip or resume_randomness is not None
            iterator = begun(iterator) if by_index or (asked and not skip) else iterator
        own = self._generators.capture()  # of a batch more than at the boundary, which is loaded already
        if resume_randomness is not None:
            resume_randomness()
        if by_index and self._newest is not None:
            self._generators.restore(own)
        return iterator

    def _noting(self, batches: Iterator[Any], number: int | None = None) -> Iterator[Any]:
        """The same batches; what the loader's own generators were before the newest one was loaded is noted each time.

        Args:
            number: of a pass that goes on: what is put back meanwhile may say that it is over, and one that has no more
                batches is not counted by the loader.
        """
        while True:
            if number is not None:
                self._loader.iteration = number
            self._newest = self._generators.before_batch()
            if self._loader.end_of_dataloader:
                self._workers.hold()
            try:
                yield next(batches)  # by no name of ours: what the script drops must be gone
            except StopIteration:
                if number is not None:
                    self._loader.iteration = number + 1
                return

    def note_start(self) -> None:
        """A pass begins now, whoever begins it."""
        inner = self._loader.base_dataloader
        start = pass_start(inner, self._randomness, self._generators)
        self._start = replace(start, number=self._loader.iteration, workers=workers_between_passes(inner))

    def position(self, *, midway: bool) -> Any:
        if self._start is None:
            return None
        held = None if midway else self._ahead()
        at = replace(self._start, newest=self._newest, held=held, workers=self._workers_at(midway=midway))
        return pass_position.accelerated_to_state(at)

    def _workers_at(self, *, midway: bool) -> Any:
        """Them in the form of a checkpoint, before the batch that is made ahead; before the pass if none is made yet."""
        if self._unmoved is not None:  # nothing has been asked for since the boundary that it is from
            return self._unmoved
        ahead = int(not self._loader.end_of_dataloader)
        now = self._workers.to_state(midway=midway, ahead=ahead)
        return self._start.workers if now is None and self._start is not None else now

    def _ahead(self) -> Any:
        """The batch that is made and not given, in the form of a checkpoint; None where there is none."""
        if self._kept is not None:  # nothing has been asked for since the boundary that it is from
            return self._kept
        loader, frame = self._loader, getattr(self._batches(), "gi_frame", None)
        if frame is None or loader.end_of_dataloader or loader.base_dataloader.num_workers:
            return None
        held = HeldBatch()
        names = frame.f_locals
        if "next_batch" in names:
            held.hold(names["next_batch"])
        if type(names) is dict:  # up to Python 3.12 the frame keeps this copy, and what is in it
            names.clear()
        return held.to_state()


@contextmanager
def _begun_by(
    loader: Any,
    made: Callable[[Iterator[Any]], Iterator[Any]],
    skip: int = 0,
    workers: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Inside, accelerate gets what `made` makes of an iterator of the ordinary loader that stands behind `skip` batches.

    Args:
        workers: called before the first batch is dealt to a worker, where there are workers.
    """

    def begin() -> Iterator[Any]:
        vars(loader).pop("__iter__", None)
        return made(iterator_behind(loader, skip, workers=workers))

    vars(loader)["__iter__"] = begin
    try:
        yield
    finally:
        vars(loader).pop("__iter__", None)


def _with(batches: Iterator[Any], number: int, held: Any) -> Iterator[Any]:
    """The same batches, but for the one of this number."""
    yield from islice(batches, number)
    if next(batches, None) is not None:
        yield held
    yield from batches
