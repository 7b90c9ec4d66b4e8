"""Trainings whose own classes have state that no `state_dict` holds."""

from __future__ import annotations

from typing import Any

import torch
import torchmetrics

from tests.backprop_lightning.recipes import Net, basic, callbacks, loader, recipe


class _Remembering(Net):
    """A list that only `on_train_epoch_start` makes, a running mean that enters the loss, a metric with attributes."""

    def __init__(self) -> None:
        super().__init__("sgd")
        self.mean = 0.0
        self.smallest = torchmetrics.MinMaxMetric(torchmetrics.MeanMetric())

    def on_train_epoch_start(self) -> None:
        self.outputs: list[torch.Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx) * (1 + self.mean)
        self.mean = 0.9 * self.mean + 0.1 * float(loss)
        self.outputs.append(loss)
        self.smallest(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("of_all_batches", torch.stack(self.outputs).mean())
        self.log("smallest", self.smallest.compute()["min"])


class _WarmUp(callbacks.Callback):  # type: ignore[misc,name-defined]
    """Counts by itself, and decides the learning rate by it."""

    def __init__(self) -> None:
        self.seen = 0

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        self.seen += 1
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = 0.001 * self.seen


class _Noisy:
    """A collate function with a generator of its own."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(7)

    def __call__(self, items: list[Any]) -> Any:
        x, y, index = torch.utils.data.default_collate(items)
        return x + 0.1 * torch.randn(x.shape, generator=self.generator), y, index


@recipe
def own_state() -> Any:
    return basic(_Remembering(), loader(collate_fn=_Noisy()), callbacks=[_WarmUp()])
