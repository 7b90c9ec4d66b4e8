"""A training with torch that takes no gradient, and no step of anything: evolution.py - TRACE PAUSE."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import torch
from torch import nn

TRACE, PAUSE = Path(sys.argv[2]), float(sys.argv[3])


def note(weights: torch.Tensor, width: float) -> None:
    with TRACE.open("a") as trace:
        trace.write(f"{hashlib.sha256(weights.numpy().tobytes()).hexdigest()[:16]} {width}\n")
    time.sleep(PAUSE)


torch.manual_seed(3)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
weights = nn.utils.parameters_to_vector(net.parameters()).detach()
width = 0.1
with torch.no_grad():
    for _ in range(120):
        noise = torch.randn(8, weights.numel())
        found = []
        for one in noise:
            nn.utils.vector_to_parameters(weights + width * one, net.parameters())
            found.append(-(net(x) - y).pow(2).mean())
        fitness = torch.stack(found)
        fitness = (fitness - fitness.mean()) / fitness.std()
        weights = weights + 0.01 * (noise * fitness[:, None]).mean(0) / width
        width *= 0.99
        note(weights, width)
