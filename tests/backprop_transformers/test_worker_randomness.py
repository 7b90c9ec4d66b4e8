"""Where random numbers drawn in a loader's workers do not go on after a resume of Trainer's, it is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from backprop_torch.rng_state import Randomness
from backprop_transformers.dataloader_state import TrainLoaderWatch


class _Moved(Dataset[Any]):
    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        return index, float(torch.rand(()))


def _loader(**how: Any) -> Any:
    return DataLoader(_Moved(), batch_size=4, shuffle=True, **{"num_workers": 2, **how})


def _read(
    loader: Any, fetched: int, trained: int = 0, saved: Any = None, over: int = 0
) -> tuple[Any, list[Any], list[str]]:
    """The place of a pass behind `trained` batches, those that were fetched in it, and what was said.

    Args:
        saved: the place that the pass goes on from, behind batches that are over.
    """
    said: list[str] = []
    watch = TrainLoaderWatch(loader, Randomness(), said.append)
    if saved is not None:
        watch.resume(saved, over, lambda: None)
    iterator = iter(loader)
    given = [next(iterator) for _ in range(fetched)]
    watch.uninstall()
    return watch.position(trained), given, said


def _values(batches: list[Any]) -> list[Any]:
    return [(indices.tolist(), moved.tolist()) for indices, moved in batches]


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_workers_go_on_behind_the_batch_that_was_trained(ahead: int) -> None:
    """Batches that were fetched ahead of training are made again, with the random numbers that they had."""
    torch.manual_seed(1)
    _, whole, _ = _read(_loader(), 6)
    torch.manual_seed(1)
    position, _, _ = _read(_loader(), 3, 3 - ahead)
    torch.manual_seed(2)
    _, rest, said = _read(_loader(), 3 + ahead, 0, position, 3 - ahead)
    assert _values(rest) == _values(whole[3 - ahead :])
    assert not said


@pytest.mark.parametrize(
    ("how", "resumed", "forgets", "words"),
    [
        ({}, {"num_workers": 3}, False, "(augmentation)"),
        ({"in_order": False}, {}, False, "in_order=False"),
        ({}, {}, True, "(augmentation)"),
    ],
)
def test_what_does_not_go_on_is_named(
    how: dict[str, Any], resumed: dict[str, Any], forgets: bool, words: str
) -> None:
    """Another number of workers, batches out of turn, a checkpoint of the version before, which resumes as it did."""
    torch.manual_seed(1)
    _, whole, _ = _read(_loader(), 6)
    torch.manual_seed(1)
    position, _, _ = _read(_loader(**how), 3, 2)
    if forgets:
        del position["start"]["workers"]
    _, rest, said = _read(_loader(**how | resumed), 4, 0, position, 2)
    if "in_order" not in how:
        assert [one[0] for one in _values(rest)] == [one[0] for one in _values(whole[2:])]
    assert [words in text for text in said] == [True]
