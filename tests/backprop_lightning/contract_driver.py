"""`Trainer.fit` with a `BackpropCallback`, for the contract of adapters."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from backprop_core.testing.adapter_driver import DrivenTraining
from backprop_lightning import BackpropCallback
from tests.backprop_lightning.recipes import PACKAGE, pl
from tests.backprop_torch.cutting import digest

PATCHED = (
    pl.Trainer,
    import_module(f"{PACKAGE}.loops.training_epoch_loop")._TrainingEpochLoop,
    import_module(f"{PACKAGE}.loops.fit_loop")._FitLoop,
    import_module(f"{PACKAGE}.trainer.connectors.checkpoint_connector")._CheckpointConnector,
    DataLoader,
)
for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
    logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.ERROR)


class Net(pl.LightningModule):  # type: ignore[misc,name-defined]
    """A model with dropout, and Adam."""

    def __init__(self, box: DrivenTraining) -> None:
        super().__init__()
        self._box = box
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self._box.step()
        x, y = batch
        return nn.functional.cross_entropy(self.layers(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.01)


def train(box: DrivenTraining) -> str:
    """Two epochs of six shuffled batches."""
    torch.manual_seed(3)
    module = Net(box)
    data = TensorDataset(torch.randn(24, 4), torch.arange(24) % 2)
    ours = box.made(BackpropCallback)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=2, callbacks=[] if ours is None else [ours], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data, batch_size=4, shuffle=True))
    return digest([dict(module.state_dict()), [one.state_dict() for one in trainer.optimizers]])
