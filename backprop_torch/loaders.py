"""Passes over a DataLoader that can be found again, batch for batch.

RandomSampler draws its seed from the global generator when its iterator is first asked, and the loader draws the workers'
base seed before that. So a pass is begun again under the randomness that reigned when it began; the batches already trained
are skipped by index, without being loaded; then the randomness is set to what it was at the boundary. In that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from backprop_core.framework import RandomnessKeeper
from backprop_torch.objects import GeneratorsTracked

_WORKER_CAVEAT = (
    "The order of the batches is exact. Random numbers drawn inside the loader's workers (augmentation) are not, on resume "
    "in the middle of an epoch: box.batches(loader, replay=True) makes them exact, see docs/pytorch.md."
)


def generators_of(loader: object) -> GeneratorsTracked:
    """The generators of its own that a loader draws from, each once."""
    samplers = [getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)]
    samplers += [getattr(sampler, "sampler", None) for sampler in samplers if sampler is not None]
    found: dict[int, torch.Generator] = {}
    for owner in (loader, *samplers):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            found[id(generator)] = generator
    return GeneratorsTracked(list(found.values()))


def loader_length(loader: Any) -> int | None:
    """Batches in one pass, or None where nobody knows before."""
    if isinstance(loader.dataset, IterableDataset):
        return None  # its length is a promise of the user's that torch itself only warns about
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


class _SkippingSampler:
    """A sampler that leaves out the first batches, lazily, so that the loader's draws keep their order."""

    def __init__(self, sampler: Iterable[Any], skip: int) -> None:
        self._sampler = sampler
        self._skip = skip

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._sampler), self._skip, None)


@contextmanager
def _skipping(loader: DataLoader[Any], skip: int) -> Iterator[None]:
    """Inside, a new iterator of `loader` begins behind `skip` batches. DataLoader forbids setting the attribute."""
    name = "batch_sampler" if loader.batch_sampler is not None else "sampler"
    sampler = getattr(loader, name)
    vars(loader)[name] = _SkippingSampler(sampler, skip)
    try:
        yield
    finally:
        vars(loader)[name] = sampler


def iterator_behind(loader: DataLoader[Any], skip: int) -> Iterator[Any]:
    """A new iterator of `loader` that stands behind `skip` batches, having drawn all that it drew for them."""
    if isinstance(loader.dataset, IterableDataset):
        iterator = iter(loader)
        next(islice(iterator, skip - 1, skip), None) if skip else None
        return iterator
    if loader.num_workers > 0 and skip:
        with _skipping(loader, skip):
            return iter(loader)  # asks the sampler at once, to fill the workers' queues
    iterator = iter(loader)
    if skip:
        indices = iterator._sampler_iter
        next(islice(indices, skip - 1, skip), None)
        iterator._num_yielded = skip
    return iterator


class LoaderReading:
    """One pass over a stock DataLoader."""

    def __init__(self, loader: DataLoader[Any], randomness: RandomnessKeeper) -> None:
        self._loader = loader
        self._randomness = randomness
        self._generators = generators_of(loader)
        self._before: Any = None
        self.length = loader_length(loader)
        indexed = loader.num_workers > 0 and not isinstance(loader.dataset, IterableDataset)
        self.caveat = _WORKER_CAVEAT if indexed else ""

    def begin(self, saved: Any | None, skip: int, resume_randomness: Callable[[], None]) -> Iterator[Any]:
        if saved is not None:
            self._randomness.set_randomness(saved["global"])
            self._generators.restore(saved["own"])
        self._before = {"global": self._randomness.randomness(), "own": self._generators.capture()}
        iterator = iterator_behind(self._loader, skip)
        if saved is not None:
            resume_randomness()
        return iterator

    def position(self) -> Any:
        return self._before


class StatefulReading:
    """One pass over a torchdata StatefulDataLoader, which keeps its position itself.

    Making its iterator draws from the global generator, so the randomness is set after it.
    """

    def __init__(self, loader: Any, randomness: RandomnessKeeper) -> None:
        self._loader = loader
        self._randomness = randomness
        self._state: Any = None
        self.length = loader_length(loader)
        self.caveat = _STATEFUL_CAVEAT if loader.num_workers > 0 else ""
        self._before: Any = None
        self._generators = generators_of(loader)

    def begin(self, saved: Any | None, skip: int, resume_randomness: Callable[[], None]) -> Iterator[Any]:
        if saved is not None:
            self._randomness.set_randomness(saved["global"])
            self._generators.restore(saved["own"])
            if saved["loader"] is not None and skip:
                self._loader.load_state_dict(saved["loader"])
        self._before = {"global": self._randomness.randomness(), "own": self._generators.capture()}
        iterator: Iterator[Any] = iter(self._loader)
        if saved is not None:
            resume_randomness()
        return iterator

    def position(self) -> Any:
        return {**self._before, "loader": self._loader.state_dict()}


_STATEFUL_CAVEAT = (
    "The order of the batches is exact. Random numbers drawn inside the StatefulDataLoader's workers are not, unless the "
    "dataset keeps them in its own state_dict: see docs/pytorch.md."
)
