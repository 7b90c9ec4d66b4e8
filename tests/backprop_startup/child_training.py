"""Trains in a process that it starts. Knows nothing of backprop.

python child_training.py spawn|fork|forkserver|torch|ranks|beside [--epochs N] [--trace FILE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train(rank: int, options: argparse.Namespace) -> None:
    if options.how == "ranks":
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{options.meet}", rank=rank, world_size=2
        )
    torch.manual_seed(rank)
    data = TensorDataset(torch.randn(64, 4), torch.randn(64, 1))
    model: nn.Module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    if options.how == "ranks":
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=options.workers)
    for _ in range(options.epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            with Path(f"{options.trace}-{rank}").open("a") as file:
                file.write(f"{float(loss)!r}\n")
            time.sleep(options.pause)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("how")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--trace", default="trace")
    options = parser.parse_args()
    options.meet = Path(f"meet-{os.getpid()}").absolute()
    if options.how in ("torch", "ranks"):
        torch.multiprocessing.spawn(train, (options,), nprocs=2 if options.how == "ranks" else 1)
    else:
        method = "spawn" if options.how == "beside" else options.how
        context = multiprocessing.get_context(method)
        children = [
            context.Process(target=train, args=(rank, options))
            for rank in range(1 + (options.how == "beside"))
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
    print("the parent goes on", flush=True)


if __name__ == "__main__":
    main()
