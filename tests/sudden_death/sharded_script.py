"""A plain loop over a model that is spread over ranks, in which ranks die: sharded_script.py LAYOUT VICTIMS…

The first word of VICTIMS holds for the first attempt, and so on: `STEP:WHO`, where WHO is a rank, `all`, or either with
`+governor`; a rank with `~` behind it hangs. Outside of `backprop run` nobody dies. Each rank has data, dropout and random
numbers of its own. At the end it prints a digest of its own blocks and of what it drew; each step has a line.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

LAYOUT, VICTIMS = sys.argv[1], sys.argv[2:]
WIDTH = int(os.environ.get("WIDTH", "16"))
"""Of the hidden layer; with 300,000 a copy is sealed on a thread."""
RANK, COUNT = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
STEP_S = 0.03


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def die_if_it_is_time(step: int) -> None:
    attempt = int(os.environ.get("BACKPROP_ATTEMPT", "99"))
    for when, _, who in (word.partition(":") for word in VICTIMS[attempt - 1 : attempt]):
        rank, _, governor = who.partition("+")
        if step == int(when) and rank == f"{RANK}~":
            time.sleep(10_000)
        if step == int(when) and rank in ("all", str(RANK)):
            threading.Timer(attempt * STEP_S / 2, die, (bool(governor) and RANK == 0,)).start()


def die(governor: bool) -> None:
    if governor:
        os.kill(parent_of(os.getppid()), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def told(steps: int, seen: list[float], *optimizers: torch.optim.Optimizer) -> None:
    """Print what this rank came to: what it drew, and its blocks of weights and moments."""
    digest = hashlib.sha256(np.array(seen).tobytes())
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        for parameter in group["params"]:
            for one in (parameter, *optimizers[0].state[parameter].values()):
                local = one.to_local() if hasattr(one, "to_local") else one
                digest.update(local.detach().numpy().tobytes())
    print(f"rank {RANK}: {steps} batches, digest {digest.hexdigest()[:16]}\n", end="", flush=True)


def spread(net: nn.Sequential) -> nn.Module:
    if LAYOUT == "fsdp":
        for layer in (net[0], net[3]):
            fully_shard(layer)  # type: ignore[arg-type]
        return fully_shard(net)
    if LAYOUT == "hsdp":
        mesh = init_device_mesh("cpu", (2, COUNT // 2), mesh_dim_names=("replicas", "shards"))
        return fully_shard(net, mesh=mesh)
    how = {name: ColwiseParallel(output_layouts=Replicate()) for name in ("0", "3")}
    return parallelize_module(net, init_device_mesh("cpu", (COUNT,)), how)  # type: ignore[arg-type]


def main() -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, WIDTH), nn.ReLU(), nn.Dropout(0.2), nn.Linear(WIDTH, 2))
    model = spread(net)
    if LAYOUT != "columns":  # there all ranks compute the same
        torch.manual_seed(RANK)
    random.seed(RANK)
    data = TensorDataset(
        torch.randn(128, 8, generator=torch.Generator().manual_seed(5)), torch.arange(128) % 2
    )
    replicas, replica = (1, 0) if LAYOUT == "columns" else (COUNT, RANK)
    sampler = DistributedSampler(data, replicas, replica)
    loader = DataLoader(data, batch_size=4 if COUNT == 2 else 2, sampler=sampler)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.9)
    steps, seen = 0, []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
            steps += 1
            seen.append(random.random() + float(torch.rand(())))
            if RANK == 0:
                print(f"batch {steps}\n", end="", flush=True)
            die_if_it_is_time(steps)
            time.sleep(STEP_S)
    told(steps, seen, optimizer)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
