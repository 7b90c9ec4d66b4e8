"""Trainings of every kind that users of Trainer write, small enough to be trained many times.

A recipe is a function that gives a Trainer without our callback.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import (
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState

from tests.looking_ahead import LookAhead, Slower
from tests.noted import Noted

Recipe = Callable[[], Trainer]
RECIPES: dict[str, Recipe] = {}
SEEN = Noted()
"""Which samples the model has been given to train, in order."""
LOADED = Noted()
"""Which samples were loaded, in order, where this process loads them."""

WORDS, LENGTH = 24, 8


def recipe(function: Recipe) -> Recipe:
    RECIPES[function.__name__] = function
    return function


def piece(number: int, length: int = LENGTH) -> dict[str, Any]:
    """A piece of text that tells its number: each has its own two first letters."""
    draw = torch.Generator().manual_seed(number)
    ids = torch.randint(0, WORDS, (length,), generator=draw)
    ids[0], ids[1] = number // WORDS, number % WORDS
    return {"input_ids": ids, "labels": ids.clone()}


class Text(Dataset[Any]):
    """Fixed pieces, of lengths of their own if asked."""

    def __init__(self, count: int = 38, *, uneven: bool = False, noise: bool = False) -> None:
        self.count, self.uneven, self.noise = count, uneven, noise

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.count:
            raise IndexError(index)
        LOADED.append(index)
        made = piece(index, 4 + index % 5 if self.uneven else LENGTH)
        if self.noise:  # augmentation in this process, from all three generators
            letter = random.randrange(3) + int(np.random.randint(3)) + int(torch.randint(3, ()))
            made["input_ids"][-1] = letter
        return made


class Stream(IterableDataset[Any]):
    """The pieces one after another."""

    def __init__(self, count: int = 38) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        start, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(start, self.count, step):
            yield piece(index)


def padded(pieces: list[Any]) -> dict[str, torch.Tensor]:
    """Pieces of several lengths as one batch."""
    width = max(len(one["input_ids"]) for one in pieces)
    ids = torch.zeros(len(pieces), width, dtype=torch.long)
    labels = torch.full((len(pieces), width), -100)
    for row, one in enumerate(pieces):
        ids[row, : len(one["input_ids"])] = one["input_ids"]
        labels[row, : len(one["input_ids"])] = one["labels"]
    return {"input_ids": ids, "labels": labels}


class Model(GPT2LMHeadModel):
    """A tiny GPT-2 with dropout and tied weights that notes what it is given to train."""

    def __init__(self, width: int = 16) -> None:
        sizes = {"vocab_size": WORDS, "n_positions": LENGTH, "n_embd": width, "n_layer": 1, "n_head": 2}
        super().__init__(GPT2Config(bos_token_id=0, eos_token_id=0, **sizes))

    def forward(self, input_ids: Any = None, labels: Any = None, **keywords: Any) -> Any:
        if self.training:
            SEEN.append((input_ids[:, 0] * WORDS + input_ids[:, 1]).tolist())
        return super().forward(input_ids=input_ids, labels=labels, **keywords)


def model(width: int = 16, kind: type[Model] = Model) -> Model:
    """The same weights in every process, whatever it was seeded with."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return kind(width)


def arguments(kind: type = TrainingArguments, **keywords: Any) -> Any:
    defaults = {
        "output_dir": tempfile.mkdtemp(prefix="trainer-"), "num_train_epochs": 2, "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 3, "save_strategy": "no",
        "report_to": "none", "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip
    return kind(**(defaults | keywords))


def trainer(kind: type[Trainer] = Trainer, data: Any = None, **keywords: Any) -> Any:
    """A Trainer; keywords that TrainingArguments knows go there."""
    own = ("callbacks", "optimizers", "compute_metrics", "data_collator", "model")
    given = {name: keywords.pop(name) for name in own if name in keywords}
    given.setdefault("model", model())
    args = keywords.pop("args", None) or arguments(**keywords)
    return kind(
        args=args, train_dataset=Text() if data is None else data, eval_dataset=Text(10, noise=False), **given
    )


@recipe
def plain() -> Any:
    return trainer(lr_scheduler_type="cosine", warmup_steps=3, weight_decay=0.1)


@recipe
def two_workers() -> Any:
    return trainer(dataloader_num_workers=2)


@recipe
def kept_workers() -> Any:
    return trainer(dataloader_num_workers=2, dataloader_persistent_workers=True, eval_strategy="epoch")


@recipe
def by_length() -> Any:
    data = Text(uneven=True)
    return trainer(data=data, data_collator=padded, train_sampling_strategy="group_by_length")


@recipe
def by_length_two_workers() -> Any:
    data = Text(uneven=True)
    return trainer(
        data=data, data_collator=padded, train_sampling_strategy="group_by_length", dataloader_num_workers=2,
        num_train_epochs=2, gradient_accumulation_steps=2,
    )  # fmt: skip


@recipe
def noise_in_data() -> Any:
    return trainer(data=Text(noise=True), gradient_accumulation_steps=2)


@recipe
def accumulation() -> Any:
    return trainer(
        gradient_accumulation_steps=4, max_grad_norm=0.1, logging_strategy="epoch", eval_strategy="epoch"
    )


@recipe
def bf16() -> Any:
    return trainer(bf16=True)


@recipe
def evaluation_in_epoch() -> Any:
    return trainer(
        eval_strategy="steps",
        eval_steps=4,
        lr_scheduler_type="reduce_lr_on_plateau",
        metric_for_best_model="loss",
    )


@recipe
def by_steps() -> Any:
    return trainer(
        max_steps=23, eval_strategy="steps", eval_steps=5, eval_on_start=True, lr_scheduler_type="polynomial"
    )


@recipe
def stream() -> Any:
    return trainer(data=Stream(), max_steps=25, gradient_accumulation_steps=2, logging_steps=4)


@recipe
def stream_two_workers() -> Any:
    return trainer(data=Stream(), max_steps=14, dataloader_num_workers=2)


@recipe
def own_optimizer() -> Any:
    made = model()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=40)
    return trainer(model=made, optimizers=(optimizer, scheduler), max_grad_norm=0.5)


@recipe
def own_methods() -> Any:
    """A model that leaves a part out of its files, and an optimizer and a schedule with attributes of their own."""

    class LeftOut(Model):
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return {
                name: value
                for name, value in super().state_dict(*args, **kwargs).items()
                if "wte" not in name
            }

    made = model(kind=LeftOut)
    optimizer = LookAhead(made.parameters(), 0.01)
    return trainer(model=made, optimizers=(optimizer, Slower(optimizer)))


class CountingCallback(TrainerCallback, ExportableState):
    """Remembers something, and draws."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps += 1
        state.log_history.append({"steps": self.steps, "drawn": random.random(), "step": state.global_step})

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"steps": self.steps}}


@recipe
def stopped_early() -> Any:
    return trainer(
        num_train_epochs=8, eval_strategy="steps", save_strategy="steps", eval_steps=3, save_steps=3, learning_rate=0.5,
        load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=False, save_total_limit=2,
        callbacks=[CountingCallback(), EarlyStoppingCallback(3)],
    )  # fmt: skip


@recipe
def many_evaluations() -> Any:
    made = trainer(
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        include_num_input_tokens_seen="all",
    )
    made.eval_dataset = {"first": Text(6), "second": Text(9)}
    return made


class OwnLoss(Trainer):
    """A derived Trainer with a loss and a loader of its own."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **keywords: Any) -> Any:
        outputs = model(**inputs)
        return (outputs.loss * 2, outputs) if return_outputs else outputs.loss * 2

    def get_train_dataloader(self) -> Any:
        draw = torch.Generator().manual_seed(3)
        return DataLoader(self.train_dataset, batch_size=4, shuffle=True, generator=draw)


@recipe
def derived() -> Any:
    return trainer(OwnLoss, neftune_noise_alpha=5.0, label_smoothing_factor=0.1)


@recipe
def sequences() -> Any:
    args = arguments(Seq2SeqTrainingArguments, eval_strategy="steps", eval_steps=6)
    return trainer(Seq2SeqTrainer, args=args)


class Norm(nn.Module):
    """No PreTrainedModel: an ordinary module with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(WORDS, 8)
        self.norm = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, WORDS)

    def forward(self, input_ids: Any, labels: Any = None) -> Any:
        SEEN.append((input_ids[:, 0] * WORDS + input_ids[:, 1]).tolist() if self.training else [])
        scores = self.out(
            nn.functional.dropout(self.norm(self.letters(input_ids).mean(1)), 0.2, self.training)
        )
        return {"loss": nn.functional.cross_entropy(scores, labels[:, 0]), "logits": scores}


@recipe
def ordinary_module() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        made = Norm()
    return trainer(model=made, dataloader_drop_last=True)
