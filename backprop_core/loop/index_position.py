"""Puts an iterator of indices behind those that are trained, at once where it reads them from a list or a range."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import GeneratorType
from typing import Any

_READERS: tuple[type, ...] = (type(iter([])), type(iter(range(0))))


def pass_over(indices: Iterator[Any], count: int, batch_sampler: type | None = None) -> None:
    """Have `indices` stand behind its next `count` items, or at its end.

    The first one is asked for, since a sampler draws its permutation then; the others are passed over together, so that
    the ten millionth batch costs what the tenth costs.

    Args:
        batch_sampler: PyTorch's class, where indices may be batches that it makes.
    """
    if count > 0:
        next(indices, None)
    if count > 1 and not _jump(indices, count - 1, batch_sampler):
        next(islice(indices, count - 2, count - 1), None)


class PassedOver:
    """A sampler that leaves out its first items, lazily, so that what it draws is drawn in the same order as ever.

    Args:
        passed: called when they are left out.
    """

    def __init__(
        self,
        sampler: Iterable[Any],
        count: int,
        batch_sampler: type | None = None,
        passed: Callable[[], None] = lambda: None,
    ) -> None:
        self._sampler, self._count, self._batch_sampler = sampler, count, batch_sampler
        self._passed = passed

    def __iter__(self) -> Iterator[Any]:
        return self._behind(iter(self._sampler))

    def _behind(self, indices: Iterator[Any]) -> Iterator[Any]:
        pass_over(indices, self._count, self._batch_sampler)
        self._passed()
        yield from indices


def _jump(indices: Iterator[Any], count: int, batch_sampler: Any) -> bool:
    """Advance what `indices` reads from, if that is a list or a range with enough left; False, and nothing done, if not."""
    source: Any = indices
    batches = None if batch_sampler is None else batch_sampler.__iter__.__code__
    if isinstance(indices, GeneratorType) and indices.gi_code is batches:
        names = {} if indices.gi_frame is None else indices.gi_frame.f_locals
        source = names.get("sampler_iter")  # torch 2.6 and later; before, batches are passed over one by one
        count *= getattr(names.get("self"), "batch_size", 0)
    while isinstance(
        source, GeneratorType
    ):  # what `yield from` hands on is read in the same order by whoever is behind it
        source = source.gi_yieldfrom
    if type(source) not in _READERS or not 0 < count <= source.__length_hint__():
        return False
    source.__setstate__(_index(source) + count)
    return True


def _index(reader: Any) -> int:
    """Where `__setstate__` counts from: the index of a list's iterator, and up to Python 3.11 of a range's."""
    state = reader.__reduce__()[2:]
    return int(state[0] or 0) if state else 0
