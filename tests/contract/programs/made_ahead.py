"""Batches whose making changes a generator and numbers in globals, and a variable of a function.

`CONTRACT_PREPARED` names who trains and what is read: `accelerate+iterable`, say.
"""

import contextlib
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from state_kinds.trace import note
from torch.utils.data import DataLoader, Dataset, IterableDataset

FORM, HOW = sys.argv[1], os.environ["CONTRACT_PREPARED"].split("+")
CUT = os.environ["CONTRACT_RUN"] != "whole"
SIZE = int(os.environ.get("CONTRACT_SIZE", "3"))
torch.manual_seed(0)
rng = np.random.default_rng(3)
draws = {"old": random.Random(4)}
calls = shared = 0


def item(index: int) -> dict[str, Any]:
    global shared
    shared += 1
    x = torch.randn(SIZE, generator=torch.Generator().manual_seed(index))
    x[:3] += torch.from_numpy(rng.normal(size=3)).float()
    return {
        "x": x,
        "y": index % 2,
        "index": index,
        "drawn": float(rng.normal()),
        "old": draws["old"].random(),
        "shared": shared,
        "noise": torch.rand(()).item(),
    }


class Points(Dataset[Any]):
    def __len__(self) -> int:
        return 28

    def __getitem__(self, index: int) -> Any:
        return item(index)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return (item(index) for index in range(28))


class Ahead:
    """Gives a batch when the next is there."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        waiting, first = None, True
        for batch in self.source:
            if not first:
                yield waiting
            waiting, first = batch, False
        yield waiting


def collator() -> Any:
    made = 0

    def collate(items: list[Any]) -> Any:
        nonlocal made
        global calls
        calls += 1
        if "globals" not in HOW:  # a loader whose parts change is treated in another way
            made += 1
        batch = torch.utils.data.default_collate(items)
        batch["calls"] = torch.full((len(items),), calls)
        batch["made"] = torch.full((len(items),), made)
        return batch

    return collate


with torch.random.fork_rng():
    torch.manual_seed(7)
    body = torch.nn.Sequential(torch.nn.Linear(SIZE, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2))


def stock() -> Any:
    data: Any = Stream() if "iterable" in HOW else Points()
    return DataLoader(data, batch_size=4, shuffle="iterable" not in HOW, collate_fn=collator())


def noted(batch: Any, **more: Any) -> None:
    """A step changes `shared`, too."""
    global shared
    shared += 10
    columns = {name: repr(one.tolist()) for name, one in batch.items() if name != "x"}
    weights = repr([p.tolist() for p in body.parameters()])
    note({**columns, "x": repr(batch["x"].double().sum().item()), "weights": weights, **more})


def loss_of(batch: Any) -> Any:
    return torch.nn.functional.cross_entropy(body(batch["x"]), batch["y"])


def plain() -> bool:
    optimizer = torch.optim.Adam(body.parameters(), 0.01)
    loader, backward = stock(), torch.Tensor.backward
    model: Any = body
    if "accelerate" in HOW:
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        backward = accelerator.backward
    if "fabric" in HOW:
        from lightning.fabric import Fabric

        fabric = Fabric(accelerator="cpu", devices=1)
        model, optimizer = fabric.setup(model, optimizer)
        loader, backward = fabric.setup_dataloaders(loader), fabric.backward
    if "ahead" in HOW:
        loader = Ahead(loader)
    box: Any = None
    if FORM == "explicit" and CUT:
        import backprop

        box = backprop.timebox("10h", run="cut", grace=0, model=body, optimizer=optimizer)
    if FORM == "unchanged" and CUT:
        import backprop

        box = backprop.timebox("10h", run="cut", grace=0)
    explicit = FORM == "explicit" and CUT
    with box if box is not None else contextlib.nullcontext():
        for _ in box.epochs(3) if explicit else range(3):
            for batch in box.batches(loader) if explicit else loader:
                loss = torch.nn.functional.cross_entropy(model(batch["x"]), batch["y"])
                optimizer.zero_grad()
                backward(loss)
                optimizer.step()
                noted(batch)
    return box is None or box.outcome.value == "completed"


def lightning() -> bool:
    import lightning.pytorch as pl

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.batch = batch
            return loss_of(batch)

        def on_train_batch_end(self, *_: Any) -> None:
            noted(self.batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(body.parameters(), 0.01)

    callbacks: list[Any] = []
    if FORM == "callback" and CUT:
        from backprop_lightning import BackpropCallback

        callbacks.append(BackpropCallback("10h", run="cut", grace=0))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", callbacks=callbacks, enable_checkpointing=False, **quiet
    )
    trainer.fit(Net(), stock())
    return not callbacks or callbacks[0].outcome.value == "completed"


def transformers() -> bool:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, **batch: Any) -> Any:
            self.batch = batch
            return {"loss": loss_of(batch)}

    class Notes(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            noted(trainer.model.batch)

    class Own(Trainer):
        def get_train_dataloader(self) -> Any:
            return self.accelerator.prepare(loader)

    loader = stock()
    callbacks: list[Any] = [Notes()]
    if FORM == "callback" and CUT:
        from backprop_transformers import BackpropCallback

        callbacks.append(BackpropCallback("10h", run="cut", grace=0))
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(), max_steps=21, save_strategy="no", report_to="none",
        use_cpu=True, disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    trainer = Own(Net(), args, train_dataset=loader.dataset, callbacks=callbacks)
    trainer.train()
    return len(callbacks) == 1 or callbacks[1].outcome.value == "completed"


if {"lightning": lightning, "transformers": transformers}.get(HOW[0], plain)():
    note({"end": repr((calls, shared))})
