"""Data that keeps state in every place it can: transform, dataset, sampler, collate function; copied beside a program.

Each place gives every batch a column of its own, so that a batch tells which place is another than in the whole training.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler, Subset

COUNT = 28


class Transform:
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(11)

    def __call__(self) -> float:
        return float(self.rng.normal())


class Points(Dataset[Any]):
    """Has generators behind a transform, in a dictionary and as attributes, counts its readers, and is told its epoch."""

    def __init__(self, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.x = torch.randn(COUNT, 3, generator=draw)
        self.y = torch.randint(0, 2, (COUNT,), generator=draw)
        self.transform = Transform()
        self.kept = {"rng": random.Random(seed)}
        self.old = np.random.RandomState(seed)
        self.epoch = self.read = 0

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read += 1
        return {
            "x": self.x[index],
            "y": self.y[index],
            "index": index,
            "rng_of_transform": self.transform(),
            "rng_in_dict": self.kept["rng"].random(),
            "random_state_of_dataset": float(self.old.rand()),
            "told_epoch": self.epoch,
            "readers_of_dataset": self.read,
        }


class Dealing(Sampler[int]):
    """Counts its passes, and deals from a list that outlives them."""

    def __init__(self, count: int) -> None:
        self.count, self.passes, self.left = count, 0, list[int]()
        self.generator = torch.Generator().manual_seed(5)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        self.passes += 1
        for _ in range(self.count):
            if not self.left:
                self.left = torch.randperm(COUNT, generator=self.generator).tolist()
            yield (self.left.pop() + self.passes) % COUNT


class Collate:
    """Draws from a generator of its own, and counts its calls."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(7)
        self.calls = 0

    def __call__(self, items: list[Any]) -> dict[str, torch.Tensor]:
        self.calls += 1
        batch: dict[str, torch.Tensor] = torch.utils.data.default_collate(items)
        batch["generator_of_collate"] = torch.rand(len(items), generator=self.generator)
        batch["calls_of_collate"] = torch.full((len(items),), self.calls)
        return batch


def loader() -> tuple[DataLoader[Any], Points]:
    """A loader of 6 batches of 4, and the data behind it."""
    first = Points(1)
    data: ConcatDataset[Any] = ConcatDataset([Subset(first, range(14)), Subset(first, range(14, COUNT))])
    return DataLoader(data, batch_size=4, sampler=Dealing(24), collate_fn=Collate()), first


def columns(batch: dict[str, torch.Tensor]) -> dict[str, str]:
    """What each place gave, by its name."""
    return {f"data.{name}": repr(one.tolist()) for name, one in batch.items()}


def loss_of(model: Any, batch: dict[str, torch.Tensor], factor: float) -> torch.Tensor:
    """With a number that the script changes by itself."""
    loss: torch.Tensor = torch.nn.functional.cross_entropy(model(batch["x"].float()), batch["y"])
    return loss * factor


def network() -> torch.nn.Module:
    """The same weights in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2))
