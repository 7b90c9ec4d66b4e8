"""Iterators of indices, put behind those that are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from backprop_core.loop.index_position import pass_over
from backprop_torch.loader_skip import iterator_behind

DATA = list(range(23))


class Own(SequentialSampler):
    """A sampler with a loop of its own, which nobody can look into."""

    def __iter__(self) -> Iterator[int]:
        for index in range(len(self.data_source)):
            yield index + 100


SAMPLERS: dict[str, Callable[[], Any]] = {
    "sequential": lambda: SequentialSampler(DATA),
    "random": lambda: RandomSampler(DATA),
    "more than there is": lambda: RandomSampler(DATA, num_samples=60),
    "with replacement": lambda: RandomSampler(DATA, replacement=True, num_samples=60),
    "subset": lambda: SubsetRandomSampler(range(3, 20)),
    "weighted": lambda: WeightedRandomSampler([1.0] * 23, 40),
    "distributed": lambda: DistributedSampler(DATA, num_replicas=2, rank=1),  # type: ignore[arg-type]
    "its own": lambda: Own(DATA),
}


@pytest.mark.parametrize("batching", ["none", "batches", "whole batches"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_passed_over_is_what_would_have_come(name: str, batching: str) -> None:
    """From any place on the same indices come, and the same draws are made, as if all before had been asked for."""
    for skip in range(30):
        ends = []
        for jumps in (True, False):
            torch.manual_seed(5)
            sampler: Any = SAMPLERS[name]()
            if batching != "none":
                sampler = BatchSampler(sampler, 4, drop_last=batching == "whole batches")
            indices = iter(sampler)
            if jumps:
                pass_over(indices, skip, BatchSampler)
            else:
                next(islice(indices, skip, skip), None)
            ends.append((list(indices), torch.rand(1)))
        assert ends[0] == ends[1], skip


class Huge:
    """A data set of more samples than anybody could pass over one by one."""

    def __len__(self) -> int:
        return 10**15

    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize("workers", [0, 1])
def test_a_far_position_is_reached_at_once(workers: int) -> None:
    """The ten billionth batch of a loader comes as the tenth does; one by one it would take an hour."""
    loader: Any = DataLoader(Huge(), batch_size=8, num_workers=workers)  # type: ignore[arg-type]
    batches = iterator_behind(loader, 10**10)
    assert next(batches).tolist() == list(range(8 * 10**10, 8 * 10**10 + 8))
