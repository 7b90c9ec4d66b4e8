"""Loaders that hold another loader and read from that; Ray Train's prepared one is its own iterator besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader


def reads_another(loader: Any) -> bool:
    """Whether `loader` makes its batches by another one: then its own sampler decides nothing."""
    return any(issubclass(type(held), DataLoader) and held is not loader for held in vars(loader).values())


def never_begun_again(loader: Any, iterator: Iterator[Any]) -> Iterator[Any]:
    """`iterator` for a `for` statement, which calls `iter` on it: the loader itself would begin a new pass there."""
    return _asked(iterator) if iterator is loader else iterator


def set_by_pass(loader: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a loader that is its own iterator which the pass has set since they were `before`.

    The pass has brought them to their place. As a part of the loader's state they would be set to what they were in another
    process: where its iterator stood, to nothing.
    """
    if not callable(getattr(type(loader), "__next__", None)):
        return {}
    return {name: value for name, value in vars(loader).items() if before.get(name, before) is not value}


def _asked(iterator: Iterator[Any]) -> Iterator[Any]:
    while True:
        try:
            yield next(iterator)  # by no name of ours: what the script drops must be gone
        except StopIteration:
            return
