"""transformers' Trainer: state in a Trainer of one's own, callbacks, the model, the collator and the dataset, in globals
and locals.
"""

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
OF_TRAINER, OF_HELD, OF_CALLBACK, OF_MODEL, OF_SCRIPT = (NAMES[start::5] for start in range(5))
SCRIPT = sys.modules["__main__"]
steps_of_module = 0
transformers.set_seed(0 if FORM == "run" else int(os.environ["CONTRACT_SEED"]))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch_data.network()
        fill(self, ALL, OF_MODEL)

    def forward(self, x: Any = None, y: Any = None, **_: Any) -> Any:
        logits = self.body(x.float())
        return {"loss": torch.nn.functional.cross_entropy(logits, y), "logits": logits}


class OwnTrainer(Trainer):
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
        self.flag, self.flags = False, list[bool]()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.data.epoch = int(state.epoch)
        self.flag = True
        for holder, names in holders(self):
            begin_epoch(holder, ALL, names)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.flags.append(self.flag)
        self.flag = False

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logged.append(
            sorted((k, v) for k, v in logs.items() if k in ("loss", "grad_norm", "learning_rate"))
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        global steps_of_module
        steps_of_module += 1
        seen: dict[str, str] = {}
        for holder, names in holders(self):
            seen |= change(holder, ALL, names)
        trainer = self.trainer
        note(
            {
                **seen,
                **torch_data.columns(trainer.batch),
                "weights": repr([p.tolist() for p in trainer.model.body.parameters()]),
                "global_number": repr(steps_of_module),
                "local": os.environ["LOCALS"],
                "factor": repr(trainer.factor),
                "flags": repr(self.flags),
                "logged": repr(self.logged),
            }
        )


def holders(notes: Notes) -> list[Any]:
    trainer = notes.trainer
    of_model = (trainer.model, OF_MODEL)
    return [
        (trainer, OF_TRAINER),
        (trainer.held, OF_HELD),
        (notes, OF_CALLBACK),
        of_model,
        (SCRIPT, OF_SCRIPT),
    ]


def train() -> None:
    curve, batches = [0.5], 0

    class Own(OwnTrainer):
        def training_step(self, *given: Any, **named: Any) -> Any:
            nonlocal batches
            batches += 1
            curve.append(curve[-1] * 1.25 % 7 + batches)
            os.environ["LOCALS"] = repr((batches, curve))
            return super().training_step(*given, **named)

    notes = Notes()
    fill(SCRIPT, ALL, OF_SCRIPT)
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
