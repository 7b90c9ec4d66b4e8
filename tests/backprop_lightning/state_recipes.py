"""Trainings whose own classes have state that no `state_dict` holds."""

from __future__ import annotations

import random
from typing import Any

import torch
import torchmetrics
from torch.utils.data import DataLoader, Subset

from tests.backprop_lightning.recipes import Net, Points, basic, callbacks, loader, pl, recipe, validation


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


class _Growing(pl.LightningDataModule):  # type: ignore[misc,name-defined]
    """Its loaders are made of what has been chosen by then, of a number that counts them, and of a draw."""

    def __init__(self) -> None:
        super().__init__()
        self.points = Points(80)
        self.chosen = list(range(20))
        self.made = 0

    def train_dataloader(self) -> Any:
        self.made += 1
        picked = random.sample(self.chosen, 12 + 4 * self.made)
        return DataLoader(Subset(self.points, picked), batch_size=4, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(Subset(self.points, self.chosen[-8:]), batch_size=4)


class _Choosing(callbacks.Callback):  # type: ignore[misc,name-defined]
    """More is chosen after each epoch; within it their order changes."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        chosen = trainer.datamodule.chosen
        chosen.append(chosen.pop(0))

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        chosen = trainer.datamodule.chosen
        chosen += range(len(chosen), len(chosen) + 6)


@recipe
def loaders_made_of_state() -> Any:
    keywords = {"max_epochs": 5, "reload_dataloaders_every_n_epochs": 1, "callbacks": [_Choosing()]}
    return Net(noise=True), keywords, {"datamodule": _Growing()}


class _Levelled(Points):
    """It has as many points as its level says, and in the order that it was given last."""

    def __init__(self) -> None:
        super().__init__(60)
        self.level, self.order = 1, list(range(60))

    def __len__(self) -> int:
        return 16 + 8 * self.level

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(self.order[index])


class _Curriculum(callbacks.Callback):  # type: ignore[misc,name-defined]
    """Raises the level after each epoch, and shuffles the points."""

    def __init__(self, points: _Levelled) -> None:
        self.points = points

    def on_train_epoch_end(self, *_: Any) -> None:
        self.points.level += 1
        random.shuffle(self.points.order)


@recipe
def loaders_made_of_one_dataset() -> Any:
    points = _Levelled()
    module = Net(noise=True)
    module.train_dataloader = lambda: DataLoader(points, batch_size=4, shuffle=True)  # type: ignore[method-assign]
    keywords = {"max_epochs": 4, "reload_dataloaders_every_n_epochs": 1, "callbacks": [_Curriculum(points)]}
    return module, keywords, {}


class _Asking(Net):
    """Its schedule asks how many steps there will be: then Lightning makes the loaders before training begins."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class _Once(pl.LightningDataModule):  # type: ignore[misc,name-defined]
    """Draws its samples from a generator of its own when its loader is made."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__()
        self.points = Points(60)
        self.draw = random.Random(4)
        self.keywords = keywords

    def train_dataloader(self) -> Any:
        picked = self.draw.sample(range(60), 32)
        return DataLoader(Subset(self.points, picked), batch_size=4, shuffle=True, **self.keywords)

    def val_dataloader(self) -> Any:
        return validation()


@recipe
def loaders_made_early() -> Any:
    return _Asking(noise=True), {"max_epochs": 3}, {"datamodule": _Once()}


@recipe
def loaders_made_early_with_workers() -> Any:
    keywords: dict[str, Any] = {"num_workers": 1, "persistent_workers": True}
    return _Asking(), {"max_epochs": 3}, {"datamodule": _Once(**keywords)}


@recipe
def loaders_made_early_and_again() -> Any:
    keywords = {"max_epochs": 4, "reload_dataloaders_every_n_epochs": 2}
    return _Asking(noise=True), keywords, {"datamodule": _Once()}


class _Drawing(Points):
    """Points that draw from a generator of their own, and count how often they are read."""

    def __init__(self) -> None:
        super().__init__(12, seed=2)
        self.draw, self.reads = random.Random(3), 0

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        x, y, number = super().__getitem__(index)
        return x + self.draw.random() + 0.001 * self.reads, y, number


class _Validating(Net):
    """Nobody else has its validation data; the sanity check before training leaves entries in its lists."""

    def __init__(self) -> None:
        super().__init__("sgd")
        self.history: list[float] = []
        self.checks = {"n": 0}

    def val_dataloader(self) -> Any:
        return DataLoader(_Drawing(), batch_size=4)

    def on_validation_epoch_end(self) -> None:
        self.checks["n"] += 1
        self.history.append(float(self.trainer.callback_metrics["val_loss"]))

    def on_train_epoch_end(self) -> None:
        self.log("history", sum(self.history))
        self.log("checks", float(self.checks["n"]))


@recipe
def state_of_validation() -> Any:
    return _Validating(), {"max_epochs": 3}, {"train_dataloaders": loader()}
