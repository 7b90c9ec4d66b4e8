"""An unmodified Lightning training on other versions, and with faults of ours: see `tests/other_versions.py`."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning.pytorch as pl
import torch

from backprop_core.session.boxed_training import BoxedTraining
from backprop_core.session.session import Session
from backprop_lightning import needs
from backprop_lightning.boundaries import TrainingLoop
from backprop_lightning.patches import PatchedFit
from backprop_lightning.training import BoxedFit
from backprop_lightning.training_state import LightningState
from tests.other_versions import Broken, names_of, tell

DECLARED = names_of(needs.OF_A_TRAINER, needs.OF_THE_PACKAGE, needs.OF_A_COMBINED_LOADER)
SHARED = {"_iterator", "teardown"}
"""Names that torch's loaders, and hooks of users, have as well."""
BROKEN: list[Broken] = [
    (TrainingLoop, "_before_batch", 2),
    (TrainingLoop, "_behind_batch", 2),
    (TrainingLoop, "_watch_loaders", 1),
    (TrainingLoop, "within_validation", 1),
    (TrainingLoop, "install", 1),
    (PatchedFit, "patch", 1),
    (BoxedFit, "listen", 1),
    (BoxedTraining, "completed", 1),
    (LightningState, "states", 1),
    (Session, "boundary", 3),
]


class Net(pl.LightningModule):
    """The smallest training with a validation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch).square().sum()
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", self.layer(batch).sum())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def train() -> list[float]:
    """The final weights."""
    torch.manual_seed(0)
    module = Net()
    data = torch.utils.data.DataLoader(torch.arange(16.0).reshape(8, 2), batch_size=2, shuffle=True)  # type: ignore[arg-type,var-annotated]
    made = pl.Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    made.fit(module, data, data)
    weights: list[float] = module.layer.weight.flatten().tolist()
    return weights


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    tell("lightning", ("lightning.pytorch", "lightning.fabric"), DECLARED, SHARED, BROKEN, train)
