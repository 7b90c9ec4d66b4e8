"""Passes over loaders that Hugging Face accelerate has prepared.

Such a loader holds an ordinary one, fetches a batch ahead of the one it gives, to know the last, and counts its passes,
which seeds samplers that are seeded by pass.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain, islice
from typing import Any
from weakref import ref

from torch.utils.data import IterableDataset

from backprop_core.loop.replay import begun
from backprop_core.ports import pass_position
from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.pass_position import PassPosition
from backprop_torch.dataloader_state import generators_of, pass_start, restore_start
from backprop_torch.held_batch import HeldBatch, batch_from_state
from backprop_torch.loader_facts import loader_batch_size, loader_length
from backprop_torch.loader_skip import iterator_behind, skipping

_MODULE = "accelerate.data_loader"
_CAVEAT = (
    "The order of the batches is exact. Random numbers drawn while a batch is loaded (augmentation) are not, because "
    "accelerate's loader fetches one batch ahead: box.batches(loader, replay=True) makes them exact without workers."
)


def is_accelerated(loader: object) -> bool:
    """Whether accelerate has prepared `loader`; it calls itself a DataLoader."""
    return type(loader).__module__ == _MODULE and hasattr(loader, "base_dataloader")


def fetched_ahead() -> int:
    """How many batches the code keeps back that asks an ordinary loader for an iterator now."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("backprop_"):
        frame = frame.f_back
    return int(frame.f_globals.get("__name__") == _MODULE)


class AcceleratedReading:
    """One pass over an accelerated loader.

    The batch that is fetched ahead is kept: making it may change anything in the script. One that cannot be stored is made
    again, under the state of the loader's own parts from before it was made.

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
        self.length, self.batch_size = loader_length(loader), loader_batch_size(loader)
        self.caveat = _CAVEAT if self._by_index and loader.base_dataloader.num_workers else ""

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        if saved is None:
            self.note_start()
            return self._noting(self._begun())
        with self._generators.resuming():
            return self._resumed(pass_position.accelerated_from_state(saved), skip, resume_randomness)

    def _resumed(
        self, before: PassPosition, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        loader = self._loader
        loader.set_epoch(before.number)
        restore_start(loader.base_dataloader, self._randomness, self._generators, before)
        self.note_start()
        held = batch_from_state(before.held) if skip else None
        self._newest = before.newest
        if held is not None and self._by_index:
            self._kept = before.held
            if resume_randomness is not None:
                resume_randomness()
            return self._noting(self._behind_held(before, held, skip))
        if held is not None:
            with _begun_by(loader.base_dataloader, lambda batches: _with(batches, skip, held)):
                iterator = self._begun()
                next(islice(iterator, skip - 1, skip), None)
            if resume_randomness is not None:
                resume_randomness()
            return self._noting(iterator)
        self.caveat = _CAVEAT if self._by_index else ""
        return self._noting(self._made_again(before, skip, resume_randomness))

    def _begun(self) -> Iterator[Any]:
        iterator: Iterator[Any] = iter(self._loader)
        self.watch(iterator)
        return iterator

    def watch(self, iterator: Any) -> None:
        """`iterator` is what goes over the loader."""
        self._batches = ref(iterator)

    def _behind_held(self, before: PassPosition, held: Any, skip: int) -> Iterator[Any]:
        """The batch that was made ahead comes first. What is made when it is asked for is made behind the boundary, so the
        place is not looked for before.
        """
        inner = self._loader.base_dataloader
        now, own = self._randomness.randomness(), self._generators.capture()

        def there(batches: Iterator[Any]) -> Iterator[Any]:
            self._randomness.set_randomness(now)
            self._generators.restore(own)
            return chain([held], batches)

        restore_start(inner, self._randomness, self._generators, before)
        with _begun_by(inner, there, skip + 1):
            iterator = self._begun()
            batches = begun(iterator)
        self._kept = None
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
            iterator = self._begun()
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

    def _noting(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same batches; what the loader's own generators were before the newest one was loaded is noted each time."""
        while True:
            self._newest = self._generators.before_batch()
            try:
                yield next(batches)  # by no name of ours: what the script drops must be gone
            except StopIteration:
                return

    def note_start(self) -> None:
        """A pass begins now, whoever begins it."""
        start = pass_start(self._loader.base_dataloader, self._randomness, self._generators)
        self._start = replace(start, number=self._loader.iteration)

    def position(self, *, midway: bool) -> Any:
        if self._start is None:
            return None
        held = None if midway else self._ahead()
        return pass_position.accelerated_to_state(replace(self._start, newest=self._newest, held=held))

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
def _begun_by(loader: Any, made: Callable[[Iterator[Any]], Iterator[Any]], skip: int = 0) -> Iterator[None]:
    """Inside, accelerate gets what `made` makes of an iterator of the ordinary loader that stands behind `skip` batches."""

    def begin() -> Iterator[Any]:
        vars(loader).pop("__iter__", None)
        return made(iterator_behind(loader, skip))

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
