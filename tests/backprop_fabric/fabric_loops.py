"""Loops with Lightning Fabric as people write them: fabric_loops.py SHAPE TRACE PAUSE."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SHAPE, TRACE, PAUSE = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
BATCHES, EPOCHS = 8, 3
DATA = TensorDataset(torch.randn(32, 4, generator=torch.Generator().manual_seed(5)), torch.arange(32) % 2)


def note(fabric: Any, model: Any, *values: Any) -> None:
    """One line: the values and a digest of the weights."""
    weights = b"".join(one.detach().numpy().tobytes() for one in model.state_dict().values())
    with TRACE.with_suffix(f".{fabric.global_rank}").open("a") as trace:
        print(hashlib.sha256(weights).hexdigest()[:12], *values, file=trace)
    time.sleep(PAUSE)


def made(fabric: Any) -> tuple[Any, Any]:
    """A model with a running mean and dropout, and its optimizer, set up."""
    torch.manual_seed(3 + fabric.global_rank)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
    return fabric.setup(model, torch.optim.Adam(model.parameters(), 1e-2))  # type: ignore[no-any-return]


def step(fabric: Any, model: Any, optimizer: Any, batch: Any) -> float:
    """One optimizer step; the loss."""
    x, y = batch
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    fabric.backward(loss)
    optimizer.step()
    return loss.item()


def epochs(fabric: Any) -> None:
    """Shuffled epochs with an evaluation, a schedule and a mean of the losses."""
    model, optimizer = made(fabric)
    loader, check = fabric.setup_dataloaders(
        DataLoader(DATA, batch_size=4, shuffle=True), DataLoader(DATA, batch_size=16)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer.optimizer, 1e-2, total_steps=EPOCHS * len(loader)
    )
    for epoch in range(EPOCHS):
        losses = []
        for number, batch in enumerate(loader):
            losses.append(step(fabric, model, optimizer, batch))
            schedule.step()
            note(fabric, model, epoch, number, batch[1].tolist(), sum(losses))
        model.eval()
        with torch.no_grad():
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in check)
        model.train()
        note(fabric, model, epoch, right)


def accumulation(fabric: Any) -> None:
    """Three batches for each step, without a `for` over the loader: it is asked with `next`, and begun anew."""
    model, optimizer = made(fabric)
    loader = fabric.setup_dataloaders(DataLoader(DATA, batch_size=4, shuffle=True))
    batches = iter(loader)
    for number in range(BATCHES * EPOCHS):
        try:
            x, y = next(batches)
        except StopIteration:
            batches = iter(loader)
            x, y = next(batches)
        steps = number % 3 == 2
        with fabric.no_backward_sync(model, enabled=not steps):
            fabric.backward(nn.functional.cross_entropy(model(x), y))
        if steps:
            optimizer.step()
            optimizer.zero_grad()
        note(fabric, model, number, y.tolist())


def main() -> None:
    torch.set_num_threads(1)
    name, _, devices = SHAPE.partition("-")
    train = {one.__name__: one for one in (epochs, accumulation)}[name]
    fabric = Fabric(accelerator="cpu", devices=int(devices or 1), strategy="ddp" if devices else "auto")
    fabric.launch()
    train(fabric)


if __name__ == "__main__":
    main()
