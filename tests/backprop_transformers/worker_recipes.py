"""Trainings whose batches are made by workers that draw from every global generator."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from tests.backprop_transformers.recipes import SEEN, Model, Text, model, recipe, trainer


class Augmented(Text):
    """The last letter of each piece is what three generators draw, wherever it is loaded."""

    def __getitem__(self, index: int) -> Any:
        made = super().__getitem__(index)
        made["input_ids"][-1] = random.randrange(8) + int(np.random.randint(8)) + int(torch.randint(8, ()))
        return made


class _Noted(Model):
    """Tells what the last letters are, of evaluations too."""

    def forward(self, input_ids: Any = None, labels: Any = None, **keywords: Any) -> Any:
        if self.training:
            SEEN.append(input_ids[:, -1].tolist())
        return super().forward(input_ids=input_ids, labels=labels, **keywords)


def drawing(**keywords: Any) -> Any:
    keywords = {"dataloader_num_workers": 2, "num_train_epochs": 3, **keywords}
    made = trainer(data=Augmented(22), model=model(kind=_Noted), **keywords)
    made.eval_dataset = Augmented(10)
    return made


@recipe
def drawing_workers() -> Any:
    return drawing(eval_strategy="steps", eval_steps=4)


@recipe
def drawing_out_of_turn() -> Any:
    """Batches come as the workers finish them."""
    return drawing(dataloader_in_order=False, max_steps=6)


@recipe
def drawing_kept_workers() -> Any:
    return drawing(
        dataloader_persistent_workers=True, eval_strategy="steps", eval_steps=4, dataloader_prefetch_factor=3
    )


@recipe
def drawing_accumulated() -> Any:
    return drawing(gradient_accumulation_steps=2, dataloader_persistent_workers=True, eval_strategy="epoch")


@recipe
def drawing_spawned_workers() -> Any:
    return drawing(
        dataloader_multiprocessing_context="spawn",
        dataloader_persistent_workers=True,
        dataloader_num_workers=1,
    )
