"""A Lightning script whose strategy shards the model: sharded_fit.py [box]."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def configure_model(self) -> None:
        fully_shard(self.layer, mesh=self.device_mesh["data_parallel"])  # type: ignore[index]

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.cross_entropy(self.layer(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


callbacks: list[pl.Callback] = []
if sys.argv[1:] == ["box"]:
    from backprop_lightning import BackpropCallback

    callbacks.append(BackpropCallback("10m", run="one"))
data = TensorDataset(torch.randn(80, 4), torch.arange(80) % 2)
trainer = pl.Trainer(
    accelerator="cpu", devices=1, strategy=ModelParallelStrategy(), max_epochs=1, logger=False, callbacks=callbacks,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
trainer.fit(Net(), DataLoader(data, batch_size=4))
print(f"trained {trainer.global_step} steps", flush=True)
