"""An unmodified transformers training on other versions, and with faults of ours: see `tests/other_versions.py`."""

from __future__ import annotations

import logging
import tempfile
import warnings
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from backprop_core.session.session import Session
from backprop_transformers import needs
from backprop_transformers.attach import attach
from backprop_transformers.boundaries import TrainBoundaries
from backprop_transformers.patches import TrainPatches
from backprop_transformers.training import TrainBox
from backprop_transformers.training_state import TrainState
from tests.other_versions import Broken, names_of, tell

DECLARED = names_of(needs.OF_THE_CLASS, needs.OF_THE_MODULE, needs.OF_A_TRAINER)
SHARED = {name for name in DECLARED if not name.startswith("_")}
"""Public names: users' callbacks, and accelerate, have them as well."""
BROKEN: list[Broken] = [
    *(
        (TrainBoundaries, name, 2)
        for name in ("epoch_begins", "batch_trained", "batch_evaluated", "_boundary")
    ),
    (TrainPatches, "_begins", 1),
    (TrainState, "freeze", 1),
    (TrainState, "states", 1),
    (TrainBox, "_completed", 1),
    (Session, "boundary", 3),
]


class Net(torch.nn.Module):
    """The smallest model that Trainer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x: Any, labels: Any = None) -> Any:
        out = self.layer(x)
        return {"loss": (out - labels).square().mean(), "logits": out}


def train() -> list[float]:
    """The final weights."""
    torch.manual_seed(0)
    data = [{"x": torch.tensor([i / 8, 1.0]), "labels": torch.tensor([float(i)])} for i in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, per_device_train_batch_size=2, num_train_epochs=2, eval_strategy="epoch", save_strategy="no",
            report_to=[], disable_tqdm=True, use_cpu=True, seed=0,
        )  # fmt: skip
        trainer = Trainer(Net(), args, train_dataset=data, eval_dataset=data)
        trainer.train()
        weights: list[float] = trainer.model.layer.weight.flatten().tolist()
    return weights


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    attach()
    tell("transformers", ("transformers",), DECLARED, SHARED, BROKEN, train)
