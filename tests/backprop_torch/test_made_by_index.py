"""Generators of the script's in a loader: named where a resumed pass skips by index, brought where it reads again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from backprop_torch.dataloader_state import generators_of


def _numbers() -> Iterator[int]:
    number = 1
    while True:
        number = (number * 7 + 1) % 1009
        yield number


class Numbered(Dataset[int]):
    """Asks for each item."""

    def __init__(self) -> None:
        self.numbers = _numbers()

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> int:
        return next(self.numbers)


class Stream(IterableDataset[int]):
    """Asks for each item, and is read again on a resume."""

    def __init__(self) -> None:
        self.numbers = _numbers()

    def __iter__(self) -> Iterator[int]:
        return (next(self.numbers) for _ in range(6))


class Dealt(Sampler[int]):
    """Asks for the order, which a resumed pass goes over again."""

    def __init__(self) -> None:
        self.numbers = _numbers()

    def __iter__(self) -> Iterator[int]:
        return (next(self.numbers) % 6 for _ in range(6))

    def __len__(self) -> int:
        return 6


def _named(loader: DataLoader[Any]) -> list[str]:
    watched = generators_of(loader)
    list(loader)
    watched.capture()
    return [one.name for one in watched.unkept()]


def test_only_what_a_skipped_batch_would_have_asked_is_named() -> None:
    """A dataset with an index; no stream, and no sampler."""
    assert _named(DataLoader(Numbered(), 2)) == ["dataset.numbers"]
    assert not _named(DataLoader(Stream(), 2))
    assert not _named(DataLoader(list(range(6)), 2, sampler=Dealt()))
