"""Trainings whose own classes have state that no `state_dict` holds."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from tests.backprop_transformers.recipes import padded, recipe, trainer


class _Counts(TrainerCallback):
    """Counts by itself in every hook, and decides the learning rate by it."""

    def __init__(self) -> None:
        self.steps = self.epochs = 0

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self.epochs += 1

    def on_step_begin(self, *args: Any, optimizer: Any = None, **kwargs: Any) -> None:
        self.steps += 1
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * self.steps / self.epochs


class _Masks:
    """A collator with a generator and a counter of its own."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)
        self.calls = 0

    def __call__(self, pieces: list[Any]) -> Any:
        self.calls += 1
        batch = padded(pieces)
        hidden = torch.rand(batch["labels"].shape, generator=self.generator) < 0.3
        return {**batch, "labels": batch["labels"].masked_fill(hidden, self.calls % 20)}


class _Weighing(Trainer):
    """Weighs each loss by the tokens it has seen, as trl's trainers count them."""

    tokens = 0

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **keywords: Any) -> Any:
        outputs = model(**inputs)
        if model.training:
            self.tokens += int(inputs["input_ids"].numel())
        loss = outputs.loss * (1 + self.tokens / 1000)
        return (loss, outputs) if return_outputs else loss


@recipe
def own_state() -> Any:
    return trainer(_Weighing, data_collator=_Masks(), callbacks=[_Counts()], lr_scheduler_type="constant")
