"""Where random numbers drawn in a loader's workers do not go on after a resume, it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from backprop_lightning.watched_loader import Watched
from backprop_torch.rng_state import Randomness


class _Moved(Dataset[Any]):
    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        return index, float(torch.rand(()))


class _Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from ((index, float(torch.rand(()))) for index in range(12))


class _Generates(DataLoader[Any]):
    def __iter__(self) -> Any:
        yield from super().__iter__()


def _loader(kind: Any = DataLoader, data: Any = _Moved, **how: Any) -> Any:
    order = {"shuffle": True} if data is _Moved else {}
    return kind(data(), batch_size=4, **{"num_workers": 2, **order, **how})


def _end(loader: Any) -> None:
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()


def _read(loader: Any, batches: int, saved: Any = None, passes: int = 0) -> tuple[Any, list[Any], list[str]]:
    """The place behind so many batches of one more pass, these batches, and what was said."""
    said: list[str] = []
    watched = Watched(loader, Randomness(), lambda error: False, said.append)
    for _ in range(passes):
        list(watched)
    watched.resume_from = saved
    iterator = iter(watched)
    given = [next(iterator) for _ in range(batches)]
    return watched.position(), given, said


def _forget(position: Any) -> Any:
    """As the version before wrote it."""
    return {name: value for name, value in position.items() if name != "workers"}


def _same(position: Any) -> Any:
    return position


@pytest.mark.parametrize(
    ("how", "resumed", "passes", "batches", "change", "words"),
    [
        ({}, {}, 0, 3, _same, ""),
        ({"persistent_workers": True}, {}, 1, 0, _same, ""),
        ({}, {"num_workers": 3}, 0, 3, _same, "(augmentation)"),
        ({"in_order": False}, {}, 0, 3, _same, "in_order=False"),
        ({}, {}, 0, 3, _forget, "(augmentation)"),
        ({"persistent_workers": True}, {}, 1, 0, _forget, "workers that stay"),
        ({"kind": _Generates}, {}, 0, 3, _same, "(augmentation)"),
        ({"kind": StatefulDataLoader}, {}, 0, 3, _same, "StatefulDataLoader"),
        ({"data": _Stream}, {}, 0, 2, _same, ""),
        ({"data": _Stream, "persistent_workers": True}, {}, 1, 2, _same, "workers that stay"),
    ],
)
def test_what_does_not_go_on_is_named(
    how: dict[str, Any],
    resumed: dict[str, Any],
    passes: int,
    batches: int,
    change: Callable[[Any], Any],
    words: str,
) -> None:
    """The samples come in their order and with their random numbers, or it is said; so from the version before."""
    first = _loader(**how)
    position, _, _ = _read(first, batches, passes=passes)
    torch.manual_seed(99)
    second = _loader(**how | resumed)
    _, went_on, said = _read(second, 2, change(position))
    _end(first)
    _end(second)
    whole = _loader(**how)
    Randomness().set_randomness(position["before"]["global"])
    if not passes and words not in ("in_order=False", "StatefulDataLoader"):
        expected = [*whole][batches : batches + 2]
        _end(whole)
        assert [one[0].tolist() for one in went_on] == [one[0].tolist() for one in expected]
        if not words:
            assert [one[1].tolist() for one in went_on] == [one[1].tolist() for one in expected]
    assert [words in text for text in said] == [True] * bool(words)
