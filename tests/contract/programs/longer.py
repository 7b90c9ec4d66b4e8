"""A training whose number of epochs is an argument: `longer.py FORM PROGRAM EPOCHS`."""

import argparse
import os
import sys
import tempfile
from typing import Any

import torch
from state_kinds.trace import note
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("form")
parser.add_argument("program")
parser.add_argument("epochs", type=int)
args = parser.parse_args()
BOXED = args.form != "run" and os.environ["CONTRACT_RUN"] != "whole"
torch.manual_seed(0)
draw = torch.Generator().manual_seed(1)
data = TensorDataset(torch.randn(12, 3, generator=draw), torch.randint(0, 2, (12,), generator=draw))
network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2))


class Settings:
    """What a program has made of its arguments, beside what it changes itself."""

    def __init__(self) -> None:
        self.epochs, self.planned = args.epochs, [args.epochs] * args.epochs
        self.steps = 0


settings = Settings()


def seen(loss: Any) -> None:
    settings.steps += 1
    settings.planned[0] += 0
    note(
        {
            "loss": repr(float(loss)),
            "steps": repr(settings.steps),
            "epochs": repr((args.epochs, settings.epochs)),
        }
    )


def plain() -> bool:
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    loader = DataLoader(data, batch_size=4, shuffle=True)

    def one(batch: Any) -> None:
        x, y = batch
        loss = torch.nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen(loss)

    if not BOXED:
        for _ in range(args.epochs):
            for batch in loader:
                one(batch)
        return True
    import backprop

    with backprop.timebox("10h", run="cut", grace=0, model=network, optimizer=optimizer) as box:
        for _ in box.epochs(args.epochs):
            for batch in box.batches(loader):
                one(batch)
    return box.outcome.value == "completed"


def lightning() -> bool:
    import lightning.pytorch as pl

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.settings = network, settings

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def on_train_batch_end(self, outputs: Any, *_: Any) -> None:
            seen(outputs["loss"])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 0.01)

    callbacks: list[Any] = []
    if BOXED:
        from backprop_lightning import BackpropCallback

        callbacks.append(BackpropCallback("10h", run="cut", grace=0))
    trainer = pl.Trainer(
        max_epochs=args.epochs, accelerator="cpu", callbacks=callbacks, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Net(), DataLoader(data, batch_size=4, shuffle=True))
    return not callbacks or callbacks[0].outcome.value == "completed"


def transformers() -> bool:
    from transformers import Trainer, TrainingArguments

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.settings = network, settings

        def forward(self, x: Any, y: Any) -> Any:
            logits = self.network(x)
            return {"loss": torch.nn.functional.cross_entropy(logits, y), "logits": logits}

    class Own(Trainer):
        def training_step(self, *given: Any, **named: Any) -> Any:
            self.newest = super().training_step(*given, **named)
            return self.newest

    callbacks: list[Any] = [of_steps()]
    if BOXED:
        from backprop_transformers import BackpropCallback

        callbacks.append(BackpropCallback("10h", run="cut", grace=0))
    told = TrainingArguments(
        output_dir=tempfile.mkdtemp(), num_train_epochs=args.epochs, per_device_train_batch_size=4, save_strategy="no",
        lr_scheduler_type="constant", report_to="none", use_cpu=True, disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    rows: Any = [{"x": x, "y": y} for x, y in data]
    trainer = Own(Net(), told, train_dataset=rows, callbacks=callbacks)
    callbacks[0].trainer = trainer
    trainer.train()
    return len(callbacks) == 1 or callbacks[-1].outcome.value == "completed"


def of_steps() -> Any:
    from transformers import TrainerCallback

    class Steps(TrainerCallback):
        trainer: Any

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seen(self.trainer.newest)

    return Steps()


if {"plain": plain, "lightning": lightning, "transformers": transformers}[args.program]():
    note({"end": repr((settings.epochs, settings.planned))})
sys.exit(0)
