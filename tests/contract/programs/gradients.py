"""A loop whose gradients outlive a step: never zeroed, zeroed by hand every three steps, or smoothed by hand."""

import contextlib
import os
import sys
from typing import Any

import torch
from state_kinds import torch_data
from state_kinds.trace import note

FORM, HOW = sys.argv[1], os.environ["CONTRACT_PREPARED"]
CUT = os.environ["CONTRACT_RUN"] != "whole"
torch.manual_seed(0)
model = torch_data.network()
model.register_parameter("unused", torch.nn.Parameter(torch.ones(2)))
optimizer = torch.optim.Adam(model.parameters(), 0.01)
loader, _ = torch_data.loader()


def one(number: int, batch: Any) -> None:
    torch_data.loss_of(model, batch, 1.0).backward()
    if HOW == "clipped":
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    if HOW == "clipped":  # half of the gradient goes on into the next
        for one in model.parameters():
            if one.grad is not None:
                one.grad.mul_(0.5)
    if HOW == "seldom" and number % 3 == 2:
        optimizer.zero_grad()
    if HOW == "by hand" and number % 3 == 2:
        for one in model.parameters():
            one.grad = None
    if HOW == "kept zeros" and number % 3 == 2:
        optimizer.zero_grad(set_to_none=False)
    noted()


def noted() -> None:
    gradients = [None if p.grad is None else p.grad.tolist() for p in model.parameters()]
    note({"weights": repr([p.tolist() for p in model.parameters()]), "gradients": repr(gradients)})


def plain() -> bool:
    box: Any = None
    if FORM == "explicit" and CUT:
        import backprop

        box = backprop.timebox("10h", run="cut", grace=0, model=model, optimizer=optimizer)
    with box if box is not None else contextlib.nullcontext():
        number = 0
        for _ in box.epochs(3) if box is not None else range(3):
            for batch in box.batches(loader) if box is not None else loader:
                one(number, batch)
                number += 1
    return box is None or box.outcome.value == "completed"


def lightning() -> bool:
    """Its hook for zeroing does nothing, or that at every third step."""
    import lightning.pytorch as pl

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = model

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return torch_data.loss_of(model, batch, 1.0)

        def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
            if HOW == "lightning seldom" and batch_idx % 3 == 0:
                optimizer.zero_grad()

        def on_train_batch_end(self, *_: Any) -> None:
            noted()

        def configure_optimizers(self) -> Any:
            return optimizer

    callbacks: list[Any] = []
    if FORM == "callback" and CUT:
        from backprop_lightning import BackpropCallback

        callbacks.append(BackpropCallback("10h", run="cut", grace=0))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", callbacks=callbacks, enable_checkpointing=False, **quiet
    )
    trainer.fit(Net(), loader)
    return not callbacks or callbacks[0].outcome.value == "completed"


if lightning() if HOW.startswith("lightning") else plain():
    note({"end": "reached"})
