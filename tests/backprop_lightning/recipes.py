"""Trainings of every kind that Lightning users write, small enough to be trained many times.

A recipe is a function that gives a module, keywords for the Trainer, and keywords for `fit`. All of them are written
with whichever of Lightning's two packages `PACKAGE` names.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from tests.looking_ahead import LookAhead, Slower
from tests.noted import Noted

PACKAGE = os.environ.get("LIGHTNING_PACKAGE", "pytorch_lightning")
pl = import_module(PACKAGE)
callbacks = import_module(f"{PACKAGE}.callbacks")
CombinedLoader = import_module(f"{PACKAGE}.utilities.combined_loader").CombinedLoader
MixedPrecision = import_module(f"{PACKAGE}.plugins.precision").MixedPrecision

Recipe = Callable[[], tuple[Any, dict[str, Any], dict[str, Any]]]
RECIPES: dict[str, Recipe] = {}
SEEN = Noted()
"""Which samples training has seen, in order."""


def recipe(function: Recipe) -> Recipe:
    RECIPES[function.__name__] = function
    return function


class Points(Dataset[Any]):
    """Fixed points, each with its number."""

    def __init__(self, count: int = 40, seed: int = 1) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.x = torch.randn(count, 6, generator=draw)
        self.y = (self.x.sum(1) > 0).long()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.y[index], index


class Stream(IterableDataset[Any]):
    """The points one after another, in an order of its own for each pass."""

    def __init__(self, count: int = 38, sized: bool = False) -> None:
        self.points = Points(count)
        if sized:
            self.__class__ = SizedStream

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        start, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(start, len(self.points), step):
            yield self.points[index]


class SizedStream(Stream):
    def __len__(self) -> int:
        return len(self.points)


class KeptStream(Stream):
    """A stream that keeps its own place, as torchdata's loader asks for."""

    def __init__(self, count: int = 38) -> None:
        super().__init__(count)
        self.at = 0

    def __iter__(self) -> Iterator[Any]:
        while self.at < len(self.points):
            self.at += 1
            yield self.points[self.at - 1]
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


class Net(pl.LightningModule):  # type: ignore[misc,name-defined]
    """Dropout, batch norm, logged sums and a torchmetric: everything that a resume can get wrong."""

    def __init__(self, optimizer: str = "adam", scheduler: str | None = None, noise: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)
        )
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=2)
        self.val_accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=2)

    def loss(self, batch: Any) -> Any:
        x, y, index = batch
        SEEN.append(index.tolist())
        if self.hparams.noise:
            x = x + random.random() + float(np.random.rand())
        out = self.net(x)
        self.accuracy(out, y)
        return nn.functional.cross_entropy(out, y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("accuracy", self.accuracy, on_step=False, on_epoch=True)
        if batch_idx == 0:
            self.log("first", loss.detach(), on_step=False, on_epoch=True, reduce_fx="sum")
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y, _ = batch
        out = self.net(x) + 0.01 * torch.rand(1)
        self.val_accuracy(out, y)
        self.log("val_loss", nn.functional.cross_entropy(out, y))
        self.log("val_accuracy", self.val_accuracy)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch[0])

    def configure_optimizers(self) -> Any:
        kinds: dict[str, Callable[[], Any]] = {
            "adam": lambda: torch.optim.AdamW(self.parameters(), lr=0.01, amsgrad=True),
            "sgd": lambda: torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9),
            "lbfgs": lambda: torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3, history_size=4),
        }
        optimizer = kinds[self.hparams.optimizer]()
        if self.hparams.scheduler is None:
            return optimizer
        schedulers = torch.optim.lr_scheduler
        if self.hparams.scheduler == "cycle":
            made: Any = schedulers.OneCycleLR(optimizer, 0.05, total_steps=200)
            return [optimizer], [{"scheduler": made, "interval": "step"}]
        if self.hparams.scheduler == "epoch":
            return [optimizer], [schedulers.StepLR(optimizer, 1, 0.7)]
        made = schedulers.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.5)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": made, "monitor": "val_loss", "strict": False},
        }


def loader(shuffle: bool = True, **keywords: Any) -> Any:
    return DataLoader(Points(), batch_size=4, shuffle=shuffle, **keywords)


def validation() -> Any:
    return DataLoader(Points(12, seed=2), batch_size=4)


def basic(
    module: Any = None, train: Any = None, **trainer: Any
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    fit = {"train_dataloaders": loader() if train is None else train, "val_dataloaders": validation()}
    return Net() if module is None else module, {"max_epochs": 3, **trainer}, fit


@recipe
def plain() -> Any:
    return basic(Net("sgd", "epoch"))


@recipe
def two_workers() -> Any:
    return basic(train=loader(num_workers=2))


@recipe
def kept_workers() -> Any:
    module, trainer, fit = basic(train=loader(num_workers=2, persistent_workers=True))
    fit["val_dataloaders"] = DataLoader(
        Points(12, seed=2), batch_size=4, num_workers=1, persistent_workers=True
    )
    return module, trainer, fit


@recipe
def accumulation() -> Any:
    return basic(Net("adam", "cycle"), accumulate_grad_batches=3)


@recipe
def scheduled_accumulation() -> Any:
    growing = callbacks.GradientAccumulationScheduler({0: 1, 1: 2, 2: 4})
    return basic(callbacks=[growing])


@recipe
def lbfgs() -> Any:
    return basic(Net("lbfgs"), max_epochs=2)


@recipe
def plateau() -> Any:
    return basic(Net("sgd", "plateau"), max_epochs=5, check_val_every_n_epoch=2)


@recipe
def validation_in_epoch() -> Any:
    return basic(Net("sgd", "plateau"), val_check_interval=0.3)


@recipe
def validation_across_epochs() -> Any:
    return basic(val_check_interval=7, check_val_every_n_epoch=None, accumulate_grad_batches=2)


@recipe
def no_validation() -> Any:
    module, trainer, fit = basic(limit_val_batches=0)
    return module, trainer, fit


@recipe
def hooks_that_draw() -> Any:
    class Drawing(Net):
        def on_train_start(self) -> None:
            torch.rand(3)
            random.random()

        def on_train_epoch_start(self) -> None:
            np.random.rand(2)
            torch.rand(1)

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            random.random()

        def on_validation_epoch_end(self) -> None:
            torch.rand(2)

        def on_train_epoch_end(self) -> None:
            self.log("drawn", torch.rand(()) + random.random() + float(np.random.rand()))

    return basic(Drawing(noise=True))


@recipe
def datamodule() -> Any:
    class Data(pl.LightningDataModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.asked = 0

        def train_dataloader(self) -> Any:
            self.asked += 1
            return loader()

        def val_dataloader(self) -> Any:
            return validation()

        def state_dict(self) -> dict[str, Any]:
            return {"asked": self.asked}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.asked = state["asked"] - 1

    return Net(), {"max_epochs": 3}, {"datamodule": Data()}


class Pairs(Net):
    def loss(self, batch: Any) -> Any:
        SEEN.append([None if part is None else part[2].tolist() for part in batch.values()])
        parts = [part for part in batch.values() if part is not None]
        return sum(nn.functional.cross_entropy(self.net(x), y) for x, y, _ in parts)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True, batch_size=4)
        return loss


def pairs(mode: str, **keywords: Any) -> Any:
    short = DataLoader(Points(18, seed=5), batch_size=4, shuffle=True)
    return basic(Pairs(), CombinedLoader({"a": loader(**keywords), "b": short}, mode))


@recipe
def cycled_loaders() -> Any:
    return pairs("max_size_cycle")


@recipe
def cycled_loaders_with_workers() -> Any:
    return pairs("max_size_cycle", num_workers=1)


@recipe
def shortest_loader() -> Any:
    return pairs("min_size")


@recipe
def longest_loader() -> Any:
    return pairs("max_size")


@recipe
def stateful() -> Any:
    return basic(train=StatefulDataLoader(Points(), batch_size=4, shuffle=True))


@recipe
def stateful_two_workers() -> Any:
    return basic(train=StatefulDataLoader(Points(), batch_size=4, shuffle=True, num_workers=2))


@recipe
def stateful_stream() -> Any:
    return basic(train=StatefulDataLoader(KeptStream(), batch_size=4))


@recipe
def stream() -> Any:
    return basic(train=DataLoader(Stream(), batch_size=4))


@recipe
def stream_two_workers() -> Any:
    return basic(train=DataLoader(Stream(), batch_size=4, num_workers=2), accumulate_grad_batches=2)


@recipe
def sized_stream() -> Any:
    return basic(train=DataLoader(Stream(sized=True), batch_size=4))


@recipe
def own_batches() -> Any:
    class Batches:
        """Something that is no DataLoader at all."""

        def __init__(self) -> None:
            self.batches = list(loader(shuffle=False))

        def __len__(self) -> int:
            return len(self.batches)

        def __iter__(self) -> Iterator[Any]:
            return iter(self.batches)

    return basic(train=Batches())


@recipe
def reloaded() -> Any:
    class Reloading(Net):
        def train_dataloader(self) -> Any:
            return DataLoader(Points(40, seed=10 + self.current_epoch), batch_size=4, shuffle=True)

        def val_dataloader(self) -> Any:
            return validation()

    return Reloading(), {"max_epochs": 5, "reload_dataloaders_every_n_epochs": 2}, {}


@recipe
def bf16() -> Any:
    return basic(precision="bf16-mixed")


@recipe
def scaled() -> Any:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, growth_interval=3)
    return basic(plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])


@recipe
def clipped_and_limited() -> Any:
    return basic(gradient_clip_val=0.1, limit_train_batches=7)


@recipe
def limited_stream() -> Any:
    return basic(train=DataLoader(Stream(), batch_size=4), limit_train_batches=5)


@recipe
def overfit() -> Any:
    return basic(overfit_batches=3, max_epochs=5)


@recipe
def by_steps() -> Any:
    return basic(max_epochs=-1, max_steps=27)


@recipe
def barebones() -> Any:
    class Bare(Net):
        def log(self, *args: Any, **kwargs: Any) -> None: ...

    return basic(Bare(), barebones=True)


@recipe
def two_optimizers() -> Any:
    class Gan(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.critic = nn.Linear(2, 1)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.net.parameters(), 0.01), torch.optim.SGD(
                self.critic.parameters(), 0.1, 0.9
            )

        def training_step(self, batch: Any, batch_idx: int) -> None:
            x, y, index = batch
            SEEN.append(index.tolist())
            one, two = self.optimizers()
            out = self.net(x)
            loss = nn.functional.cross_entropy(out, y) + self.critic(out).mean()
            self.manual_backward(loss / 2)
            if batch_idx % 2:  # the module accumulates by itself
                one.step()
                one.zero_grad()
            two.zero_grad()
            self.manual_backward(-self.critic(out.detach()).tanh().mean())
            two.step()
            self.log("train_loss", loss)

    return basic(Gan())


@recipe
def own_methods() -> Any:
    """What is trained is left out of Lightning's checkpoint, and the optimizer has attributes that are in none."""

    class LeftOut(Net):
        strict_loading = False

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            weights = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: weights[name] for name in weights if "net.0" not in name}

        def configure_optimizers(self) -> Any:
            optimizer = LookAhead(self.parameters())
            return [optimizer], [{"scheduler": Slower(optimizer), "interval": "step"}]

    return basic(LeftOut())


@recipe
def averaged() -> Any:
    return basic(callbacks=[callbacks.EMAWeightAveraging(decay=0.8)])


class PrunedByHooks(Net):
    """Prunes in hooks of its own: one that runs again on a resume, one that does not; then it grows by a layer."""

    def on_fit_start(self) -> None:
        torch.nn.utils.prune.l1_unstructured(self.net[0], "weight", 0.2)

    def on_train_epoch_start(self) -> None:
        torch.nn.utils.prune.l1_unstructured(self.net[4], "weight", 0.2)
        if self.current_epoch == 1:
            self.net.append(nn.Linear(2, 2))
            self.optimizers().optimizer.add_param_group({"params": self.net[5].parameters()})


@recipe
def pruned_by_hooks() -> Any:
    return basic(PrunedByHooks())


@recipe
def pruned() -> Any:
    """More is pruned at the end of each epoch; the checkpoint of Lightning has it as weights that are pruned for good."""
    net = Net()
    pruning = callbacks.ModelPruning(
        "l1_unstructured",
        parameters_to_prune=[(net.net[4], "weight")],
        amount=0.3,
        use_lottery_ticket_hypothesis=False,
    )
    return basic(net, callbacks=[pruning])


@recipe
def swa() -> Any:
    return basic(
        Net("sgd"), max_epochs=5, callbacks=[callbacks.StochasticWeightAveraging(0.02, swa_epoch_start=2)]
    )


@recipe
def kept_checkpoints() -> Any:
    """The best two, the last, and one of every few steps: after cuts the same files as without."""
    best = callbacks.ModelCheckpoint(monitor="val_loss", save_top_k=2, save_last=True)
    every = callbacks.ModelCheckpoint(every_n_train_steps=4, save_top_k=-1, filename="at-{step}")
    return basic(callbacks=[best, every], enable_checkpointing=True, profiler="simple")


@recipe
def found_rate() -> Any:
    """A finder tries batches before the training, in each process anew."""

    class Tried(Net):
        def on_train_start(self) -> None:
            SEEN.clear()

    finder = callbacks.LearningRateFinder(num_training_steps=5, update_attr=False)
    return basic(Tried(), callbacks=[finder], default_root_dir=os.environ["BACKPROP_HOME"])


@recipe
def found_batch_size() -> Any:
    class Sized(Net):
        def __init__(self) -> None:
            super().__init__()
            self.batch_size = 2

        def on_train_start(self) -> None:
            SEEN.clear()

        def train_dataloader(self) -> Any:
            return DataLoader(Points(), batch_size=self.batch_size, shuffle=True)

        def val_dataloader(self) -> Any:
            return validation()

    finder = callbacks.BatchSizeFinder(steps_per_trial=2, max_trials=2)
    home = os.environ["BACKPROP_HOME"]
    return Sized(), {"max_epochs": 3, "callbacks": [finder], "default_root_dir": home}, {}


@recipe
def own_sampler() -> Any:
    """A sampler whose order depends on the epoch, and which Lightning is told to leave alone."""
    sampler = DistributedSampler(Points(), num_replicas=2, rank=1, shuffle=True)
    train = DataLoader(Points(), batch_size=4, sampler=sampler, num_workers=1)
    return basic(train=train, use_distributed_sampler=False)


@recipe
def stopped_early() -> Any:
    stopping = callbacks.EarlyStopping("val_loss", patience=1, min_delta=0.5)
    return basic(max_epochs=9, min_epochs=5, callbacks=[stopping])
