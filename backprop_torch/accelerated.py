"""Passes over loaders that Hugging Face accelerate has prepared.

Such a loader holds an ordinary one, fetches a batch ahead of the one it gives, to know the last, and counts its passes,
which seeds samplers that are seeded by pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from types import FrameType
from typing import Any

from torch.utils.data import IterableDataset

from backprop_core.loop.replay import begun
from backprop_core.ports import pass_position
from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.pass_position import PassPosition
from backprop_torch.dataloader_state import generators_of, pass_start, restore_start
from backprop_torch.loader_facts import loader_batch_size, loader_length
from backprop_torch.loader_skip import skipping

_MODULE = "accelerate.data_loader"
_CAVEAT = (
    "The order of the batches is exact. Random numbers drawn while a batch is loaded (augmentation) are not, because "
    "accelerate's loader fetches one batch ahead: box.batches(loader, replay=True) makes them exact without workers."
)


def is_accelerated(loader: object) -> bool:
    """Whether accelerate has prepared `loader`; it calls itself a DataLoader."""
    return type(loader).__module__ == _MODULE and hasattr(loader, "base_dataloader")


def fetched_ahead(reader: FrameType) -> int:
    """How many batches the code that reads from an ordinary loader keeps back."""
    return int(reader.f_globals.get("__name__") == _MODULE)


class AcceleratedReading:
    """One pass over an accelerated loader.

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
        self.length, self.batch_size = loader_length(loader), loader_batch_size(loader)
        self.caveat = _CAVEAT if self._by_index else ""

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        loader = self._loader
        before = None if saved is None else pass_position.accelerated_from_state(saved)
        if before is not None:
            loader.set_epoch(before.number)
            restore_start(loader.base_dataloader, self._randomness, self._generators, before)
        self.note_start()
        if before is None:
            return self._noting(iter(loader))
        again = self._generators.lacks_more(before.newest)
        by_index = (
            self._by_index and skip > 1 and not again
        )  # the first batch is loaded together with the second
        newest = None if loader.base_dataloader.num_workers else before.newest

        def before_newest() -> None:
            self._generators.restore_before_batch(newest)

        with skipping(loader.base_dataloader, skip, before_newest) if by_index else nullcontext():
            iterator = iter(loader)
            if not by_index and skip:
                next(islice(iterator, skip - 1, skip), None)
            self._newest = before.newest
            asked = skip or resume_randomness is not None
            iterator = begun(iterator) if by_index or (asked and not skip) else iterator
        own = self._generators.capture()  # of a batch more than at the boundary, which is loaded already
        if resume_randomness is not None:
            resume_randomness()
        if by_index and self._newest is not None:
            self._generators.restore(own)
        return self._noting(iterator)

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
        return pass_position.accelerated_to_state(replace(self._start, newest=self._newest))
