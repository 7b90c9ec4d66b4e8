"""A plain loop with a piece of every kind; tests/prove/test_planted_faults.py cuts it with a fault planted."""

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

random.seed(0)
np.random.seed(0)
torch.manual_seed(0)
x = torch.randn(64, 8)
y = (x.sum(1) > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
noise = torch.Generator().manual_seed(1)
ema = {name: value.detach().clone() for name, value in model.named_parameters()}
history: list[float] = []
micro = seen = 0
best = 9.0
for _epoch in range(6):
    for a, b in loader:
        scale = 1 + 0.01 * (random.random() + np.random.rand())
        augmented = scale * a + 0.01 * torch.randn(a.shape, generator=noise)
        loss = nn.functional.cross_entropy(model(augmented), b)
        loss.backward()
        micro += 1
        if micro % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            for name, value in model.named_parameters():
                ema[name].mul_(0.9).add_(value.detach(), alpha=0.1)
        seen += len(a)
        best = min(best, loss.item())
        history.append(loss.item())
