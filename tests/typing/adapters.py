"""The adapters' public surface as a user sees it; type-checked by `make check`, never run.

A wrong keyword has to be an error: where a signature were lost, its `type: ignore` would be one that nothing needs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import lightning
import pytorch_lightning
import torch
from transformers import Trainer

import backprop
import backprop_keras
import backprop_lightning
import backprop_torch
import backprop_transformers
from backprop_core.events.sinks import Sink, SinkRun, Told

outcome: backprop.Outcome
path: Path | None
seconds: float
share: float
text: str

fit = backprop_lightning.BackpropCallback(
    "10m",
    until=datetime.now(tz=UTC),
    checkpoint_every=timedelta(minutes=5),
    keep=3,
    keep_every=1000,
    checkpoint_dir=Path("checkpoints"),
    run="digits",
    name="a label",
    resume="auto",
    grace=30,
    strict=True,
)
lightning.Trainer(callbacks=[fit])
pytorch_lightning.Trainer(callbacks=[fit])
outcome, path, seconds, share, text = fit.outcome, fit.checkpoint, fit.remaining, fit.progress, fit.run_id
path = fit.resumed_from
share = fit.progress_at(3)
backprop_lightning.BackpropCallback(budgt="10m")  # type: ignore[call-arg]
backprop_lightning.BackpropCallback(keep="many")  # type: ignore[arg-type]

keras_fit = backprop_keras.BackpropCallback(
    "10m",
    until=datetime.now(tz=UTC),
    checkpoint_every=timedelta(minutes=5),
    keep=3,
    keep_every=1000,
    checkpoint_dir=Path("checkpoints"),
    run="digits",
    name="a label",
    resume=Path("a checkpoint"),
    grace=30,
    strict=True,
)
outcome, path, seconds = keras_fit.outcome, keras_fit.checkpoint, keras_fit.remaining
share, text = keras_fit.progress, keras_fit.run_id
path = keras_fit.resumed_from
share = keras_fit.progress_at(3)
backprop_keras.BackpropCallback(budgt="10m")  # type: ignore[call-arg]
backprop_keras.BackpropCallback(keep="many")  # type: ignore[arg-type]
backprop_keras.BudgetLR(keras_fit, warmup=0.1, shape="cosine", replay="another")

train = backprop_transformers.BackpropCallback(
    "10m",
    until=datetime.now(tz=UTC),
    checkpoint_every=timedelta(minutes=5),
    keep=3,
    keep_every=1000,
    checkpoint_dir=Path("checkpoints"),
    run="digits",
    name="a label",
    resume=False,
    grace=30,
    strict=True,
)
Trainer(callbacks=[train])
outcome, path, seconds, share, text = (
    train.outcome,
    train.checkpoint,
    train.remaining,
    train.progress,
    train.run_id,
)
path = train.resumed_from
share = train.progress_at(3)
backprop_transformers.BackpropCallback(budgt="10m")  # type: ignore[call-arg]
backprop_transformers.BackpropCallback(keep="many")  # type: ignore[arg-type]

optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
with backprop.timebox("10m", optimizer=optimizer) as box:
    schedule = backprop_torch.BudgetLR(optimizer, box, warmup=0.1, shape=lambda share: 1 - share)
    schedule.step()
backprop_lightning.BudgetLR(optimizer, fit)
backprop_transformers.BudgetLR(optimizer, train, name="second")


class Lines:
    """A sink of a user's own."""

    def __init__(self, run: SinkRun) -> None:
        self.run = run

    def take(self, told: Told) -> None:
        print(told.event.kind, told.line, told.attempt)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def lines(run: SinkRun) -> Sink:
    return Lines(run)
