"""Loaders whose workers draw random numbers, or keep a state of their own: each piece starts them anew."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from tests.backprop_torch.cutting import Cut
from tests.backprop_torch.kinds._parts import dataset, fit
from tests.backprop_torch.kinds.loaders import _accelerated, _Augmented, _augmented_by


def augmented_in_two_workers(cut: Cut) -> dict[str, Any]:
    return fit(cut, _augmented_by(2, stay=False))


def augmented_in_three_workers_that_stay(cut: Cut) -> dict[str, Any]:
    loader = _augmented_by(3, stay=True)
    made = fit(cut, loader)
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()
    return made


def accelerated_with_augmenting_workers(cut: Cut) -> dict[str, Any]:
    return fit(cut, _accelerated(_augmented_by(2, stay=False)))


def accelerated_with_augmenting_workers_that_stay(cut: Cut) -> dict[str, Any]:
    return fit(cut, _accelerated(_augmented_by(3, stay=True)))


def augmented_in_workers_replayed(cut: Cut) -> dict[str, Any]:
    return fit(cut, DataLoader(_Augmented(), batch_size=5, shuffle=True, num_workers=2), replay=True)


def stateful_two_workers(cut: Cut) -> dict[str, Any]:
    return fit(cut, StatefulDataLoader(dataset(), batch_size=5, shuffle=True, num_workers=2))


def stateful_replayed(cut: Cut) -> dict[str, Any]:
    loader = StatefulDataLoader(_Augmented(), batch_size=5, shuffle=True, num_workers=2)
    return fit(cut, loader, replay=True)
