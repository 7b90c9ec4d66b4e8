"""An unmodified plain loop on other versions of PyTorch: see `tests/other_versions.py`."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from torch.utils.data import DataLoader

from backprop_torch import needs
from backprop_torch.training_watch import _Waiting
from tests.other_versions import names_of, tell

DECLARED = names_of(needs.OF_OPTIMIZERS, needs.OF_DATALOADERS, needs.OF_A_LOADER, needs.OF_AN_ITERATOR)
SHARED = {name for name in DECLARED if not name.startswith("_") or name.startswith("__")}
"""Public names."""


def train() -> list[float]:
    """The final weights, and the next random number."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    if "BACKPROP_RUN_DIR" in os.environ:
        waiting = _Waiting()
        waiting.optimizer_is_made()
    data: DataLoader[Any] = DataLoader(torch.arange(16.0).reshape(8, 2), batch_size=2, shuffle=True)  # type: ignore[arg-type]
    for _ in range(2):
        for batch in data:
            optimizer.zero_grad()
            layer(batch).square().sum().backward()
            optimizer.step()
    return [*layer.weight.flatten().tolist(), torch.rand(1).item()]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    tell("pytorch", ("torch.utils.data", "torch.optim"), DECLARED, SHARED, [], train)
