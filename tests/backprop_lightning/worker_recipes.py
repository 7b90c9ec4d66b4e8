"""Trainings whose batches are made by workers that draw from every global generator."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from tests.backprop_lightning.recipes import SEEN, CombinedLoader, Net, Pairs, Points, basic, recipe


class Augmented(Points):
    """Each point is moved by what three generators draw, wherever it is loaded."""

    def __getitem__(self, index: int) -> Any:
        x, y, number = super().__getitem__(index)
        return x + random.gauss(0, 1) + float(np.random.randn()) + 0.1 * torch.randn(6), y, number


class _Noted(Net):
    """Tells the batches of its validations, too."""

    def loss(self, batch: Any) -> Any:
        SEEN.append(float(batch[0].sum()))
        return super().loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("validated", batch[0].sum())
        super().validation_step(batch, batch_idx)


class _NotedPairs(Pairs):
    def loss(self, batch: Any) -> Any:
        SEEN.append([None if part is None else float(part[0].sum()) for part in batch.values()])
        return super().loss(batch)


def augmented(count: int = 22, **keywords: Any) -> Any:
    keywords = {"batch_size": 4, "shuffle": True, "num_workers": 2, **keywords}
    return DataLoader(Augmented(count), **keywords)


def drawing(validated: dict[str, Any], train: dict[str, Any], **trainer: Any) -> Any:
    module, keywords, fit = basic(_Noted("sgd"), augmented(**train), **trainer)
    fit["val_dataloaders"] = augmented(12, **{"shuffle": False, "num_workers": 1, **validated})
    return module, keywords, fit


@recipe
def drawing_workers() -> Any:
    return drawing({}, {})


@recipe
def drawing_kept_workers() -> Any:
    kept = {"persistent_workers": True}
    return drawing(kept, {**kept, "prefetch_factor": 3}, val_check_interval=0.5)


@recipe
def drawing_kept_workers_limited() -> Any:
    kept = {"persistent_workers": True}
    return drawing(kept, kept, limit_train_batches=4, limit_val_batches=2)


@recipe
def drawing_spawned_workers() -> Any:
    spawned = {"persistent_workers": True, "multiprocessing_context": "spawn", "num_workers": 1}
    return drawing({}, spawned, max_epochs=2, limit_val_batches=0)


@recipe
def drawing_pairs() -> Any:
    """The shorter one begins anew in the middle of an epoch, with the workers that it has."""
    short = augmented(10, num_workers=1, persistent_workers=True)
    return basic(_NotedPairs(), CombinedLoader({"a": augmented(), "b": short}, "max_size_cycle"))


@recipe
def drawing_out_of_turn() -> Any:
    """Batches come as the workers finish them."""
    return drawing({}, {"in_order": False}, max_epochs=1, limit_val_batches=0)


@recipe
def drawing_unsized() -> Any:
    """Lightning does not know the length, and fetches one batch ahead."""
    return drawing({}, {"batch_size": 1, "shuffle": False, "sampler": None, "batch_sampler": _Unsized(22)})


class _Unsized:
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Any:
        order = torch.randperm(self.count).tolist()
        return iter([order[at : at + 4] for at in range(0, self.count, 4)])
