"""A plain PyTorch training of two processes in a time box: `-m tests.backprop_torch.two_ranks FOLDER KIND RUN [AT RANK]`.

In its `AT`-th step rank `RANK` sends itself a SIGTERM. Each rank writes what it saw to FOLDER/RUN-<at>-<rank>.json.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import backprop
from tests.backprop_torch.cutting import digest

EPOCHS = 3
STEPS = 1500


class Training:
    """A model, its optimizer, and data that each rank has a share of.

    Attributes:
        seen: samples and random numbers of the training's steps on this rank.
    """

    seen: ClassVar[list[list[float]]] = []

    def __init__(self, at: int, begins: bool) -> None:
        self.begins = begins
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        torch.manual_seed((1 if begins else 77) + 100 * self.rank)  # a resume must not depend on the seed
        random.seed((1 if begins else 77) + 100 * self.rank)
        net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 2))
        self.model = DistributedDataParallel(net) if dist.is_initialized() else net
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 5)
        data = torch.arange(480.0).reshape(60, 8) / 480
        self.dataset = TensorDataset(data, torch.arange(60) % 2)
        self.sampler: DistributedSampler[object] | None = (
            DistributedSampler(self.dataset) if dist.is_initialized() else None
        )
        self.loader = DataLoader(
            self.dataset, batch_size=4, sampler=self.sampler, shuffle=self.sampler is None
        )
        self._at = at

    def box(self, run: str) -> backprop.TimeBox:
        return backprop.timebox(
            "10h", run=run, grace=0, model=self.model, optimizer=self.optimizer, scheduler=self.scheduler
        )

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.seen.append([*x[:, 0].tolist(), random.random()])
        self.optimizer.zero_grad()
        noisy = x + 0.01 * torch.rand_like(x)
        loss: torch.Tensor = nn.functional.cross_entropy(self.model(noisy), y)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.scheduler.step()
        if len(self.seen) == self._at:
            os.kill(os.getpid(), signal.SIGTERM)


def explicit(training: Training, run: str) -> backprop.TimeBox:
    """The exact form: epochs and batches of the box's own."""
    with training.box(run) as box:
        for epoch in box.epochs(EPOCHS):
            if training.sampler is not None:
                training.sampler.set_epoch(epoch)
            for x, y in box.batches(training.loader):
                training.step(x, y)
    return box


def private_generator(training: Training, run: str) -> backprop.TimeBox:
    """Each rank shuffles all data by a generator of its own, which the loader holds."""
    generator = torch.Generator().manual_seed(5 + training.rank)
    loader = DataLoader(training.dataset, batch_size=4, shuffle=True, generator=generator)
    with training.box(run) as box:
        for _epoch in box.epochs(2):
            for x, y in box.batches(loader):
                training.step(x, y)
    return box


def steps(training: Training, run: str) -> backprop.TimeBox:
    """A loop without epochs, long enough for a signal to be heard: the ranks talk every quarter of a second."""
    with training.box(run) as box:
        for _step in box.steps(STEPS):
            training.step(torch.rand(4, 8), torch.arange(4) % 2)
    return box


def looked_at_once(training: Training, run: str) -> backprop.TimeBox:
    """An unchanged loop behind a mean over the data, which the resumed process does not take any more."""
    with training.box(run) as box:
        if training.begins:
            sum(x.mean() for x, _ in training.loader)
        for _epoch in range(EPOCHS):
            for x, y in training.loader:
                training.step(x, y)
    return box


KINDS: dict[str, Callable[[Training, str], backprop.TimeBox]] = {
    kind.__name__: kind for kind in (explicit, private_generator, steps, looked_at_once)
}


def main() -> None:
    folder, kind, run = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    at, struck = (int(sys.argv[4]), int(sys.argv[5])) if len(sys.argv) > 4 else (0, 0)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and run != "unknown":
        dist.init_process_group("gloo")
    rank = int(os.environ.get("RANK", "0"))
    training = Training(at if rank == struck else 0, begins=bool(at) or run == "whole")
    try:
        box = KINDS[kind](training, run)
    except backprop.BackpropError as error:
        print(f"backprop: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    made = {
        "outcome": str(box.outcome),
        "run": box.run_id,
        "seen": training.seen,
        "drawn": [random.random(), *torch.rand(2).tolist()],
        "weights": digest(dict(training.model.state_dict())),
        "optimizer": digest(training.optimizer.state_dict()),
        "scheduler": training.scheduler.last_epoch,
    }
    (folder / f"{run}-{at}-{rank}.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main()
