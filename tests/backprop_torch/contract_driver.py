"""A plain loop in `backprop.timebox`, for the contract of adapters."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

import backprop
from backprop_core.testing.adapter_driver import DrivenTraining
from tests.backprop_torch.cutting import digest

PATCHED = (DataLoader, Optimizer, _BaseDataLoaderIter, torch.Tensor)


def train(box: DrivenTraining) -> str:
    """Two epochs of six shuffled batches, with dropout and Adam."""
    torch.manual_seed(3)
    data = TensorDataset(torch.randn(24, 4), torch.arange(24) % 2)
    loader = DataLoader(data, batch_size=4, shuffle=True)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    mine = box.made(partial(backprop.timebox, model=model, optimizer=optimizer))
    with mine or nullcontext():
        for _ in mine.epochs(2) if mine else range(2):
            for x, y in mine.batches(loader) if mine else loader:
                box.step()
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
    return digest([dict(model.state_dict()), optimizer.state_dict()])
