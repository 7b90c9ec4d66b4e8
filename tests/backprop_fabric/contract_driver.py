"""A loop with Lightning Fabric in `backprop.timebox`, for the contract of adapters."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import torch
from lightning.fabric import Fabric
from lightning.fabric.wrappers import _FabricDataLoader
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

import backprop
from backprop_core.testing.adapter_driver import DrivenTraining
from tests.backprop_torch.cutting import digest

PATCHED = (_FabricDataLoader, Fabric, DataLoader, Optimizer)


def train(box: DrivenTraining) -> str:
    """Two epochs of six shuffled batches, with dropout and Adam."""
    torch.manual_seed(3)
    fabric = Fabric(accelerator="cpu", devices=1)
    data = TensorDataset(torch.randn(24, 4), torch.arange(24) % 2)
    loader = fabric.setup_dataloaders(DataLoader(data, batch_size=4, shuffle=True))
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2))
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), 0.01))
    mine = box.made(partial(backprop.timebox, model=model, optimizer=optimizer))
    with mine or nullcontext():
        for _ in mine.epochs(2) if mine else range(2):
            for x, y in mine.batches(loader) if mine else loader:
                box.step()
                optimizer.zero_grad()
                fabric.backward(nn.functional.cross_entropy(model(x), y))
                optimizer.step()
    return digest([dict(model.state_dict()), optimizer.state_dict()])
