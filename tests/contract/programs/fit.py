"""Lightning's Trainer: state in attributes of the module, a DataModule, callbacks and the loader, in globals and locals."""

import os
import sys
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import LambdaCallback
from state_kinds import arrays, torch_data
from state_kinds.plain import KINDS, Held, begin_epoch, change, fill
from state_kinds.standard import STANDARD
from state_kinds.trace import note

FORM = sys.argv[1]
ALL = {
    **KINDS,
    **STANDARD,
    **arrays.numpy_kinds(),
    **arrays.torch_kinds(),
    **arrays.torchmetrics_kinds(),
    **arrays.loader_kinds(),
}
NAMES = list(ALL)
OF_MODULE, OF_HELD, OF_CALLBACK, OF_DATA, OF_SCRIPT = (NAMES[start::5] for start in range(5))
SCRIPT = sys.modules["__main__"]
pl.seed_everything(0 if FORM == "run" else int(os.environ["CONTRACT_SEED"]))


class Data(pl.LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.loader, self.points = torch_data.loader()
        fill(self, ALL, OF_DATA)

    def train_dataloader(self) -> Any:
        return self.loader


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch_data.network()
        self.factor, self.of_class = 1.0, 0
        self.held = Held()
        fill(self, ALL, OF_MODULE)
        fill(self.held, ALL, OF_HELD)
        self.values: list[float] = []

    def on_train_epoch_start(self) -> None:
        self.trainer.datamodule.points.epoch = self.current_epoch
        self.outputs: list[torch.Tensor] = []
        begin_epoch(self, ALL, OF_MODULE)
        begin_epoch(self.held, ALL, OF_HELD)
        begin_epoch(self.trainer.datamodule, ALL, OF_DATA)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.batch = batch
        loss = torch_data.loss_of(self.body, batch, self.factor)
        self.factor = 0.9 * self.factor + 0.1 * min(float(loss), 2.0)
        self.outputs.append(loss.detach())
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.values.append(float(torch.stack(self.outputs).mean()))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.body.parameters(), 0.01)


class Notes(pl.Callback):
    def __init__(self) -> None:
        fill(self, ALL, OF_CALLBACK)

    def on_train_epoch_start(self, *_: Any) -> None:
        begin_epoch(self, ALL, OF_CALLBACK)
        begin_epoch(SCRIPT, ALL, OF_SCRIPT)

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        seen = {**change(module, ALL, OF_MODULE), **change(module.held, ALL, OF_HELD)}
        seen |= {**change(self, ALL, OF_CALLBACK), **change(trainer.datamodule, ALL, OF_DATA)}
        seen |= change(SCRIPT, ALL, OF_SCRIPT)
        note(
            {
                **seen,
                **torch_data.columns(module.batch),
                "weights": repr([p.tolist() for p in module.body.parameters()]),
                "outputs": repr(torch.stack(module.outputs).tolist()),
                "values": repr(module.values),
                "local": os.environ["LOCALS"],
                "closure": os.environ["CLOSURE"],
                "logged": repr(sorted((k, float(v)) for k, v in trainer.callback_metrics.items())),
            }
        )


def counting() -> Any:
    """A hook that keeps its number in variables that no running function has."""
    count = 0

    def one_more(*_: Any) -> None:
        nonlocal count
        count += 1
        os.environ["CLOSURE"] = repr(count)

    return one_more


def train() -> None:
    curve, steps = [0.5], 0

    def one_more(*_: Any) -> None:
        nonlocal steps
        steps += 1
        curve.append(curve[-1] * 1.25 % 7 + steps)
        os.environ["LOCALS"] = repr((steps, curve))

    fill(SCRIPT, ALL, OF_SCRIPT)
    callbacks: list[Any] = [
        LambdaCallback(on_train_batch_start=one_more, on_before_backward=counting()),
        Notes(),
    ]
    if FORM == "callback" and os.environ["CONTRACT_RUN"] != "whole":
        from backprop_lightning import BackpropCallback

        callbacks.append(BackpropCallback("10h", run="cut", grace=0, strict="CONTRACT_STRICT" in os.environ))
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    net = Net()
    trainer = pl.Trainer(max_epochs=3, accelerator="cpu", callbacks=callbacks, **quiet)
    trainer.fit(net, datamodule=Data())
    if len(callbacks) == 2 or callbacks[-1].outcome.value == "completed":
        note({"end": repr((net.values, float(trainer.callback_metrics["loss_epoch"])))})


train()
