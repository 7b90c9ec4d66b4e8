"""transformers' Trainer: state in a Trainer of one's own, callbacks, the model, the collator and the dataset."""

import os
import sys
import tempfile
from typing import Any

import torch
import transformers
from state_kinds import arrays, torch_data
from state_kinds.plain import KINDS, Held, begin_epoch, change, fill
from state_kinds.standard import STANDARD
from state_kinds.trace import note
from transformers import Trainer, TrainerCallback, TrainingArguments

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
OF_TRAINER, OF_HELD, OF_CALLBACK, OF_MODEL = (NAMES[start::4] for start in range(4))
transformers.set_seed(0 if FORM == "run" else int(os.environ["CONTRACT_SEED"]))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch_data.network()
        fill(self, ALL, OF_MODEL)

    def forward(self, x: Any = None, y: Any = None, **_: Any) -> Any:
        logits = self.body(x.float())
        return {"loss": torch.nn.functional.cross_entropy(logits, y), "logits": logits}


class Own(Trainer):
    factor = 1.0

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        self.batch = inputs
        loss = torch_data.loss_of(model.body, inputs, self.factor)
        self.factor = 0.9 * self.factor + 0.1 * min(float(loss), 2.0)
        return loss

    def get_train_dataloader(self) -> Any:
        return self.accelerator.prepare(self.own_loader)


class Notes(TrainerCallback):
    trainer: Any
    data: Any

    def __init__(self) -> None:
        fill(self, ALL, OF_CALLBACK)
        self.logged: list[Any] = []

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.data.epoch = int(state.epoch)
        for holder, names in holders(self):
            begin_epoch(holder, ALL, names)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logged.append(
            sorted((k, v) for k, v in logs.items() if k in ("loss", "grad_norm", "learning_rate"))
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seen: dict[str, str] = {}
        for holder, names in holders(self):
            seen |= change(holder, ALL, names)
        trainer = self.trainer
        note(
            {
                **seen,
                **torch_data.columns(trainer.batch),
                "weights": repr([p.tolist() for p in trainer.model.body.parameters()]),
                "factor": repr(trainer.factor),
                "logged": repr(self.logged),
            }
        )


def holders(notes: Notes) -> list[Any]:
    trainer = notes.trainer
    return [(trainer, OF_TRAINER), (trainer.held, OF_HELD), (notes, OF_CALLBACK), (trainer.model, OF_MODEL)]


def train() -> None:
    notes = Notes()
    callbacks: list[Any] = [notes]
    if FORM == "callback" and os.environ["CONTRACT_RUN"] != "whole":
        from backprop_transformers import BackpropCallback

        callbacks.append(BackpropCallback("10h", run="cut", grace=0, strict="CONTRACT_STRICT" in os.environ))
    loader, notes.data = torch_data.loader()
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(), num_train_epochs=3, per_device_train_batch_size=4, logging_steps=2,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    trainer = Own(Net(), args, train_dataset=loader.dataset, callbacks=callbacks)
    notes.trainer, trainer.own_loader, trainer.held = trainer, loader, Held()
    fill(trainer, ALL, OF_TRAINER)
    fill(trainer.held, ALL, OF_HELD)
    trainer.train()
    if len(callbacks) == 1 or callbacks[-1].outcome.value == "completed":
        note({"end": repr((trainer.state.global_step, notes.logged))})


train()
