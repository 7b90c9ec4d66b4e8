"""Handwritten digits on several processes: torchrun --nproc-per-node 2 digits_ddp.py. Real data: scikit-learn's digits."""

import argparse
import hashlib
import time
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def digest(model):
    total = hashlib.sha256()
    for tensor in model.state_dict().values():
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()[:16]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
    parser.add_argument("--trace", type=Path, help="a file for one line a step of each rank")
    options = parser.parse_args()

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    data = load_digits()
    images, labels = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    train = TensorDataset(images[:1500], labels[:1500])
    sampler = DistributedSampler(train)
    loader = DataLoader(train, batch_size=16, sampler=sampler)
    model = DistributedDataParallel(
        nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(options.epochs):
        sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            time.sleep(options.pause)
            if options.trace:
                with options.trace.with_suffix(f".{rank}").open("a") as trace:
                    trace.write(
                        f"{hashlib.sha256(x.numpy().tobytes()).hexdigest()[:8]} {digest(model.module)}\n"
                    )
        if rank == 0:
            print(f"epoch {epoch}: loss {loss.item():.3f}", flush=True)
    if rank == 0:
        print(f"digest {digest(model.module)}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
