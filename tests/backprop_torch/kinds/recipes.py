"""Kinds of training: optimizers, schedulers, scalers, averages, accumulation, randomness, compiled models."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from tests.backprop_torch.cutting import Cut
from tests.backprop_torch.kinds._parts import dataset, network, train_step


def _loader() -> DataLoader[Any]:
    return DataLoader(dataset(), batch_size=5, shuffle=True)


def gan(cut: Cut) -> dict[str, Any]:
    """Two models, two optimizers, noise from the global generator."""
    maker, judge = nn.Linear(4, 6), network()
    makers = torch.optim.Adam(maker.parameters(), lr=1e-2)
    judges = torch.optim.RMSprop(judge.parameters(), lr=1e-3)
    losses: list[float] = []
    with cut.box(maker=maker, judge=judge, makers=makers, judges=judges, losses=losses) as box:
        for _ in box.epochs(3):
            for x, y in box.batches(_loader()):
                judges.zero_grad()
                fake = maker(torch.randn(len(x), 4))
                loss = nn.functional.cross_entropy(judge(x), y) - judge(fake.detach()).logsumexp(1).mean()
                loss.backward()
                judges.step()
                makers.zero_grad()
                judge(maker(torch.randn(len(x), 4))).logsumexp(1).mean().backward()
                makers.step()
                losses.append(loss.item())
                cut.reached(len(losses))
    return {
        "maker": maker.state_dict(),
        "judge": judge.state_dict(),
        "makers": makers.state_dict(),
        "judges": judges.state_dict(),
        "losses": losses,
    }


def mixed_precision(cut: Cut) -> dict[str, Any]:
    """A GradScaler on the CPU that grows every third step, and a step that it skips because of an infinity."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
    losses: list[float] = []
    with cut.box(model=model, optimizer=optimizer, scaler=scaler, losses=losses) as box:
        for _ in box.epochs(3):
            for x, y in box.batches(_loader()):
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=torch.float16):
                    loss = nn.functional.cross_entropy(model(x), y)
                if len(losses) % 7 == 4:
                    loss = loss * torch.tensor(float("inf"))
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                losses.append(float(loss))
                cut.reached(len(losses))
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "losses": losses,
    }


def half_precision_model(cut: Cut) -> dict[str, Any]:
    """bfloat16 weights, whose optimizer keeps bfloat16 averages."""
    model = network().to(torch.bfloat16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses: list[float] = []
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for _ in box.epochs(3):
            for x, y in box.batches(_loader()):
                losses.append(train_step(model, optimizer, x.bfloat16(), y))
                cut.reached(len(losses))
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}


def _scheduled(cut: Cut, make: Any, *, each_batch: bool = False) -> dict[str, Any]:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = make(optimizer)
    losses: list[float] = []
    rates: list[float] = []
    with cut.box(model=model, optimizer=optimizer, scheduler=scheduler, losses=losses, rates=rates) as box:
        for _ in box.epochs(5):
            for x, y in box.batches(_loader()):
                losses.append(train_step(model, optimizer, x, y))
                cut.reached(len(losses))
                if each_batch:
                    scheduler.step()
            if not each_batch:
                scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": {k: v for k, v in scheduler.state_dict().items() if k != "_schedulers"},
        "losses": losses,
        "rates": rates,
    }


def step_schedule(cut: Cut) -> dict[str, Any]:
    return _scheduled(cut, lambda o: lr_scheduler.StepLR(o, step_size=2, gamma=0.3))


def cosine_schedule(cut: Cut) -> dict[str, Any]:
    return _scheduled(cut, lambda o: lr_scheduler.CosineAnnealingLR(o, 5))


def one_cycle_schedule(cut: Cut) -> dict[str, Any]:
    return _scheduled(cut, lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=46), each_batch=True)


def warm_up_then_cosine(cut: Cut) -> dict[str, Any]:
    def make(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        warm_up = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=10)
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, 36)
        return lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], milestones=[10])

    return _scheduled(cut, make, each_batch=True)


def lambda_schedule(cut: Cut) -> dict[str, Any]:
    return _scheduled(cut, lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch))


def plateau_schedule(cut: Cut) -> dict[str, Any]:
    """Stepped after a validation, which goes through box.batches as well."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    checks = DataLoader(dataset(20), batch_size=4)
    losses: list[float] = []
    found: list[float] = []
    with cut.box(model=model, optimizer=optimizer, scheduler=scheduler, losses=losses, found=found) as box:
        for _ in box.epochs(4):
            model.train()
            for x, y in box.batches(_loader()):
                losses.append(train_step(model, optimizer, x, y))
                cut.reached(len(losses))
            model.eval()
            with torch.no_grad():
                for x, y in box.batches(checks):
                    found.append(nn.functional.cross_entropy(model(x), y).item())
                    losses.append(-1.0)
                    cut.reached(len(losses))
            scheduler.step(sum(found[-5:]))
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "losses": losses,
        "found": found,
    }


def accumulation(cut: Cut) -> dict[str, Any]:
    """Four batches to a step. The grace is nothing, so a stop inside a window keeps the gradients."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses: list[float] = []
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for _ in box.epochs(3):
            for x, y in box.batches(_loader()):
                loss = nn.functional.cross_entropy(model(x), y) / 4
                loss.backward()
                losses.append(loss.item())
                cut.reached(len(losses))
                if len(losses) % 4 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}


def averaged_model(cut: Cut) -> dict[str, Any]:
    """An AveragedModel with a schedule of its own, and a moving average made by hand."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, nesterov=True, momentum=0.9)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    by_hand = copy.deepcopy(model)
    schedule = SWALR(optimizer, swa_lr=0.01, anneal_epochs=2)
    losses: list[float] = []
    with cut.box(
        model=model, optimizer=optimizer, average=average, by_hand=by_hand, schedule=schedule, losses=losses
    ) as box:
        for _ in box.epochs(3):
            for x, y in box.batches(_loader()):
                losses.append(train_step(model, optimizer, x, y))
                cut.reached(len(losses))
                average.update_parameters(model)
                with torch.no_grad():
                    for mine, theirs in zip(by_hand.parameters(), model.parameters(), strict=True):
                        mine.lerp_(theirs, 0.1)
            schedule.step()
    return {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "by_hand": by_hand.state_dict(),
        "optimizer": optimizer.state_dict(),
        "losses": losses,
    }


def all_randomness(cut: Cut) -> dict[str, Any]:
    """python, numpy and torch draw in every step, generators of the script's own too."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    own_torch, own_numpy = torch.Generator().manual_seed(cut.piece), np.random.default_rng(cut.piece)
    own_python = random.Random(cut.piece)
    losses: list[float] = []
    with cut.box(
        model=model,
        optimizer=optimizer,
        losses=losses,
        own_torch=own_torch,
        own_numpy=own_numpy,
        own_python=own_python,
    ) as box:
        for _ in box.epochs(3):
            random.random()
            for points, y in box.batches(_loader()):
                shift = random.random() + np.random.rand() + float(own_numpy.normal()) + own_python.random()
                x = points + shift * torch.rand(6) + torch.rand(6, generator=own_torch)
                losses.append(train_step(model, optimizer, x, y))
                cut.reached(len(losses))
            np.random.permutation(3)
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "losses": losses,
        "next": [random.random(), np.random.rand(), torch.rand(2), torch.rand(1, generator=own_torch)],
        "own": [own_python.random(), float(own_numpy.random())],
    }


def compiled(cut: Cut) -> dict[str, Any]:
    """A torch.compile'd model, trained through the compiled one and saved under the names of the plain one."""
    model = network()
    fast = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses: list[float] = []
    loader = DataLoader(dataset(40), batch_size=5, shuffle=True)
    with cut.box(model=fast, optimizer=optimizer, losses=losses) as box:
        for _ in box.epochs(3):
            for x, y in box.batches(loader):
                losses.append(train_step(fast, optimizer, x, y))
                cut.reached(len(losses))
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}


def frozen_layers_and_groups(cut: Cut) -> dict[str, Any]:
    """A layer that is thawed half way, and a parameter group that is added then; the resume finds both."""
    model = network()
    last = model[4]
    optimizer = torch.optim.Adam(
        [{"params": last.parameters(), "lr": 1e-2}, {"params": model[1].parameters()}]
    )
    model[0].requires_grad_(False)
    losses: list[float] = []
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for epoch in box.epochs(4):
            model[1].requires_grad_(epoch >= 2)
            for x, y in box.batches(_loader()):
                losses.append(train_step(model, optimizer, x, y))
                cut.reached(len(losses))
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}


def bare_parameters(cut: Cut) -> dict[str, Any]:
    """No module at all: tensors in an optimizer."""
    weights = torch.randn(6, 3, requires_grad=True)
    bias = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([weights, bias], lr=1e-2)
    losses: list[float] = []
    with cut.box(optimizer=optimizer, losses=losses) as box:
        for _ in box.epochs(3):
            for x, y in box.batches(_loader()):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(x @ weights + bias, y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                cut.reached(len(losses))
    return {"weights": weights, "bias": bias, "optimizer": optimizer.state_dict(), "losses": losses}


def second_order(cut: Cut) -> dict[str, Any]:
    """LBFGS: its state is a list of tensors, and a step is many evaluations."""
    model = nn.Linear(6, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4, history_size=3)
    losses: list[float] = []
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for _ in box.epochs(2):
            for x, y in box.batches(_loader()):

                def closure(x: Any = x, y: Any = y) -> torch.Tensor:
                    optimizer.zero_grad()
                    loss = nn.functional.cross_entropy(model(x), y)
                    loss.backward()
                    return loss

                losses.append(float(optimizer.step(closure)))
                cut.reached(len(losses))
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
