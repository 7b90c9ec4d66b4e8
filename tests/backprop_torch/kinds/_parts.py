"""Small models and data that the kinds share. Data is the same in every process; weights are not, until restored."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.backprop_torch.cutting import Cut


def _points(count: int = 42) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(5)
    return torch.randn(count, 6, generator=made), torch.randint(0, 3, (count,), generator=made)


def dataset(count: int = 42) -> TensorDataset:
    """`count` points of 6 numbers in 3 classes."""
    return TensorDataset(*_points(count))


def network() -> nn.Module:
    """With everything that has state or draws random numbers: BatchNorm and Dropout."""
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def fit(cut: Cut, loader: Any, *, epochs: int = 3, replay: bool = False, **more: Any) -> dict[str, Any]:
    """The ordinary loop, explicit form, over any loader of (x, y) batches."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses: list[float] = []
    with cut.box(model=model, optimizer=optimizer, losses=losses, **more) as box:
        for _ in box.epochs(epochs):
            for x, y in box.batches(loader, replay=replay):
                losses.append(train_step(model, optimizer, x, y))
                cut.reached(len(losses))
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> float:
    """One step; its loss."""
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()
