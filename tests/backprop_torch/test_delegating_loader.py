"""Loaders that hold another loader and are their own iterator, as Ray Train's prepared one is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from backprop_torch.loader_skip import iterator_behind


class Prepared(DataLoader[Any]):
    """Has the attributes of the loader that it holds, and asks that one."""

    def __init__(self, held: DataLoader[Any]) -> None:
        vars(self).update(vars(held))
        self._held = held

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Any:
        self._running = iter(self._held)
        return self

    def __next__(self) -> Any:
        return next(self._running)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pass_goes_on_behind_the_batches_that_are_over(workers: int) -> None:
    """Its batches are those of the uncut pass; the `for` began another one, and a sampler that nobody asks skipped none."""
    loader = Prepared(
        DataLoader(TensorDataset(torch.arange(40.0)), batch_size=4, shuffle=True, num_workers=workers)
    )
    torch.manual_seed(3)
    whole = [x.tolist() for (x,) in loader]
    torch.manual_seed(3)
    assert [x.tolist() for (x,) in iterator_behind(loader, 4)] == whole[4:]
