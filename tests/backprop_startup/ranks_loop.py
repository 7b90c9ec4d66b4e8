"""Two ranks of a plain loop with counters, a schedule and averages of their own: ranks_loop.py TRACE PAUSE."""

from __future__ import annotations

import hashlib
import random
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

TRACE, PAUSE = Path(sys.argv[1]), float(sys.argv[2])
EPOCHS, BATCHES = 3, 8


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    random.seed(rank)
    data = TensorDataset(torch.randn(64, 4, generator=torch.Generator().manual_seed(5)), torch.arange(64) % 2)
    sampler = DistributedSampler(data)
    loader = DataLoader(data, batch_size=4, sampler=sampler)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2)))
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=EPOCHS * BATCHES)
    best, steps, seen = float("inf"), 0, [0.0]
    trace = TRACE.with_suffix(f".{rank}").open("a")
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            steps += 1
            total += loss.item()
            seen.append(random.random() + rank)
            weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
            words = (steps, hashlib.sha256(weights).hexdigest()[:12], total, best, seen[-1])
            print(*words, file=trace, flush=True)
            time.sleep(PAUSE)
        best = min(best, total)
    sys.stdout.write(
        f"rank {rank}: {steps} steps, best {best}\n"
    )  # in one piece: both ranks write into one pipe
    dist.destroy_process_group()


main()
