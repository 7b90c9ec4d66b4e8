"""`Trainer.train` with a `BackpropCallback`, for the contract of adapters."""

from __future__ import annotations

import logging
import tempfile
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from backprop_core.testing.adapter_driver import DrivenTraining
from backprop_transformers import BackpropCallback
from tests.backprop_torch.cutting import digest

PATCHED = (Trainer, CallbackHandler, DataLoader)
logging.disable(logging.WARNING)


class Net(nn.Module):
    """A model with dropout."""

    def __init__(self, box: DrivenTraining) -> None:
        super().__init__()
        self._tell = box.step
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2))

    def forward(self, x: Any, labels: Any) -> Any:
        self._tell()
        return {"loss": nn.functional.cross_entropy(self.layers(x), labels)}


def train(box: DrivenTraining) -> str:
    """Two epochs of six shuffled batches, with AdamW and a schedule."""
    torch.manual_seed(3)
    data = [{"x": torch.randn(4), "labels": torch.tensor(number % 2)} for number in range(24)]
    model = Net(box)
    ours = box.made(BackpropCallback)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                folder, per_device_train_batch_size=4, num_train_epochs=2, learning_rate=0.01, report_to=[],
                save_strategy="no", disable_tqdm=True, use_cpu=True, logging_strategy="no",
            ),
            train_dataset=data,  # type: ignore[arg-type]
            callbacks=[] if ours is None else [ours],
        )  # fmt: skip
        trainer.train()
    assert trainer.optimizer is not None
    return digest([dict(model.state_dict()), trainer.optimizer.state_dict()])
