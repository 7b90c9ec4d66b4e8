"""Two ranks with counters, lists and random numbers of their own that end one after the other: ranks_end.py TRACE PAUSE.

In the first attempt under `backprop run` the second rank is killed when the first has ended, before its last word.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

TRACE, PAUSE = Path(sys.argv[1]), float(sys.argv[2])


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    first = [os.getpid()]
    dist.broadcast_object_list(first, src=0)
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(rank)
    data = TensorDataset(torch.randn(64, 4, generator=torch.Generator().manual_seed(5)), torch.arange(64) % 2)
    sampler = DistributedSampler(data)
    loader = DataLoader(data, batch_size=4, sampler=sampler)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2)))
    optimizer = torch.optim.Adam(model.parameters())
    steps, seen, best = 0, [], float("inf")
    trace = TRACE.with_suffix(f".{rank}").open("a")
    for epoch in range(4):
        sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            steps += 1
            best = min(best, loss.item())
            seen.append(random.random() + float(np.random.random()) + rank)
            print(steps, loss.item(), seen[-1], file=trace, flush=True)
            time.sleep(PAUSE)
    dist.destroy_process_group()
    if rank == 1 and os.environ.get("BACKPROP_ATTEMPT") == "1" and PAUSE < 1:
        while not is_gone(first[0]):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    weights = b"".join(one.detach().numpy().tobytes() for one in model.state_dict().values())
    of_weights = hashlib.sha256(weights).hexdigest()[:12]
    drawn = (random.random(), float(np.random.random()), float(torch.rand(())))
    sys.stdout.write(f"rank {rank}: {steps} steps, {sum(seen)}, best {best}, {drawn}, {of_weights}\n")


main()
