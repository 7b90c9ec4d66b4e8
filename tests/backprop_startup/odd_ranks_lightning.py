"""Two ranks of a Lightning script that has never heard of us, with a fault of ours on one: odd_ranks_lightning.py RANK."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")


def fault(*arguments: Any, **more: Any) -> None:
    raise RuntimeError("a fault of our own")


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        if number == 3 and os.environ.get("LOCAL_RANK", "0") == sys.argv[1]:
            from backprop_core.session.hands import SessionHands
            from backprop_core.session.other_ranks import FollowingSession

            setattr(SessionHands, "collect", fault)  # noqa: B010
            setattr(FollowingSession, "talk", fault)  # noqa: B010
        x, y = batch
        return torch.nn.functional.cross_entropy(self.layer(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


data = TensorDataset(torch.randn(80, 4), torch.arange(80) % 2)
trainer = pl.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=6, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
trainer.fit(Net(), DataLoader(data, batch_size=4))
print(f"rank {trainer.global_rank} trained {trainer.global_step} steps", flush=True)
