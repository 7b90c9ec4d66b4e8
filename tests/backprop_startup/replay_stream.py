"""A Lightning agent whose loader draws from a full buffer, which drops its oldest items at each step."""

from __future__ import annotations

import collections
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, IterableDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Seen(NamedTuple):
    """What the agent has seen."""

    at: Any
    number: int


class Draws(IterableDataset[Any]):
    """Twenty of the buffer, drawn when a pass begins."""

    def __init__(self, seen: collections.deque[Seen]) -> None:
        self.seen = seen

    def __iter__(self) -> Iterator[Any]:
        drawn = [self.seen[int(n)] for n in torch.randperm(len(self.seen))[:20]]
        yield from (one.at for one in drawn)


class Agent(LightningModule):
    """Looks at the world once before each step."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.number = torch.nn.Linear(3, 1), 0
        self.seen: collections.deque[Seen] = collections.deque(maxlen=24)
        for _ in range(24):
            self.look()

    def look(self) -> None:
        self.number += 1
        self.seen.append(Seen(torch.randn(3).numpy(), self.number))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.look()
        if os.environ.get("END_AT") == str(self.global_step + 1):
            os.kill(os.getpid(), signal.SIGTERM)
        loss: torch.Tensor = (self.net(batch) - batch.sum(1, keepdim=True)).square().mean()
        return loss

    def train_dataloader(self) -> Any:
        return DataLoader(Draws(self.seen), batch_size=4)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.01)


seed_everything(1)
agent = Agent()
quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
Trainer(max_epochs=12, accelerator="cpu", **dict[str, Any].fromkeys(quiet, False)).fit(agent)
seen = [(one.at.tolist(), one.number) for one in agent.seen]
print("digest", agent.net.weight.tolist(), seen, flush=True)
