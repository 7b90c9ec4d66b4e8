"""Handwritten digits with Lightning inside a time box, exact on resume.

    backprop run -m 5s --budget-from training examples/digits_lightning.py -- --pause 0.02
    backprop resume RUN

Nothing but the callback is backprop's. Real data: the 1,797 digits that scikit-learn ships. The last line is a digest of the
weights, so that an uninterrupted run and one in pieces can be compared.
"""

import argparse
import hashlib
import time

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from backprop_lightning import BackpropCallback


class Digits(pl.LightningModule):
    """A small network with dropout and batch norm."""

    def __init__(self, epochs: int, pause: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(
            nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.BatchNorm1d(128), nn.Linear(128, 10)
        )

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        time.sleep(self.hparams["pause"])
        x, y = batch
        loss = nn.functional.cross_entropy(self.network(x), y)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("accuracy", (self.network(x).argmax(1) == y).float().mean())

    def configure_optimizers(
        self,
    ) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.hparams["epochs"])]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--budget", default=None, help='such as "10s"; default: what backprop run says, or 10 minutes'
    )
    parser.add_argument("--run", default=None, help="id of a run to create or continue")
    parser.add_argument(
        "--pause", type=float, default=0.0, help="seconds of extra work in each step, to see more of it"
    )
    options = parser.parse_args()

    pl.seed_everything(0)
    data = load_digits()
    images = torch.tensor(data.data, dtype=torch.float32) / 16
    labels = torch.tensor(data.target)
    train = DataLoader(TensorDataset(images[:1500], labels[:1500]), batch_size=32, shuffle=True)
    test = DataLoader(TensorDataset(images[1500:], labels[1500:]), batch_size=64)

    model = Digits(options.epochs, options.pause)
    box = BackpropCallback(options.budget, run=options.run)
    trainer = pl.Trainer(max_epochs=options.epochs, accelerator="cpu", callbacks=[box], logger=False,
                         enable_checkpointing=False, enable_progress_bar=False)  # fmt: skip
    trainer.fit(model, train, test)

    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    accuracy = float(trainer.callback_metrics.get("accuracy", float("nan")))
    print(
        f"{box.outcome} after {trainer.global_step} steps, accuracy {accuracy:.3f}, digest {digest.hexdigest()[:16]}"
    )


if __name__ == "__main__":
    main()
