"""An iterator of a DataLoader that stands behind its first batches, which were not loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from types import GeneratorType
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from backprop_core.loop.index_position import PassedOver, pass_over
from backprop_torch.delegating_loader import never_begun_again, reads_another
from backprop_torch.worker_states import made_noting


@contextmanager
def skipping(
    loader: DataLoader[Any], skip: int | None, passed: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Inside, a new iterator of `loader` begins behind `skip` batches, or at the end. DataLoader forbids setting it.

    Workers that stay keep one iterator for all passes, which has the sampler in a place of its own.

    Args:
        passed: called when they are skipped.
    """
    name = "batch_sampler" if loader.batch_sampler is not None else "sampler"
    sampler = getattr(loader, name)
    skipping = () if skip is None else PassedOver(sampler, skip, BatchSampler, passed)
    vars(loader)[name] = skipping
    staying = getattr(loader, "_iterator", None)
    if staying is not None:
        staying._index_sampler = skipping
    try:
        yield
    finally:
        vars(loader)[name] = sampler
        staying = getattr(loader, "_iterator", None)
        if staying is not None:
            staying._index_sampler = sampler


def iterator_behind(
    loader: DataLoader[Any],
    skip: int,
    *,
    replay: bool = False,
    made: Callable[[], None] = lambda: None,
    make: Callable[[], Any] | None = None,
    inner: Callable[[Any], Any] = lambda iterator: iterator,
    workers: Callable[[], None] = lambda: None,
) -> Iterator[Any]:
    """A new iterator of `loader` that stands behind `skip` batches, having drawn all that it drew for them.

    Args:
        replay: load the batches and throw them away.
        made: called between the making of the iterator and its first batch, where these are two moments.
        make: makes an iterator; None: as everybody does.
        inner: torch's own iterator inside of what was made.
        workers: called before the first batch is dealt to a worker, where there are workers.
    """
    make = make or (lambda: made_noting(lambda one: never_begun_again(one, iter(one)), loader))
    if skip and not replay and not isinstance(loader.dataset, IterableDataset):
        if loader.num_workers > 0 and not reads_another(loader):
            with skipping(loader, skip, workers):
                iterator: Iterator[Any] = make()  # asks the sampler at once, to fill the workers' queues
                if type(iterator) is GeneratorType:  # a subclass's, which asks when it is asked itself
                    iterator = _continued(list(islice(iterator, 1)), iterator)
            torchs = inner(iterator)
            if isinstance(torchs, _BaseDataLoaderIter):
                torchs._num_yielded = skip
            return iterator
        iterator = make()
        made()
        torchs = inner(iterator)
        if isinstance(torchs, _BaseDataLoaderIter):
            pass_over(torchs._sampler_iter, skip, BatchSampler)
            torchs._num_yielded = skip
        else:  # a subclass gives an iterator of its own
            next(islice(torchs, skip - 1, skip), None)
        return iterator
    iterator = make()
    if skip and loader.num_workers == 0:
        made()
    next(islice(inner(iterator), skip - 1, skip), None) if skip else None
    return iterator


def _continued(first: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    """What was asked for already, which is not kept, and the rest."""
    while first:
        yield first.pop(0)
    yield from rest
