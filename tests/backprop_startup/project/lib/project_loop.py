"""The training loop of the project."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import project_meters
import torch
from torch import nn


def train(trace: Path, pause: float) -> None:
    """Three epochs over batches in another order each time."""
    torch.manual_seed(5)
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    data = torch.randn(160, 4)
    for _ in range(3):
        for batch in torch.randperm(160).split(4):
            loss = (net(data[batch]) - data[batch].sum(1, keepdim=True)).pow(2).mean() * project_meters.scale
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            project_meters.note(float(loss.detach()))
            digest = hashlib.sha256(net.weight.detach().numpy().tobytes()).hexdigest()[:16]
            with trace.open("a") as file:
                file.write(f"{digest} {project_meters.seen()}\n")
            time.sleep(pause)
