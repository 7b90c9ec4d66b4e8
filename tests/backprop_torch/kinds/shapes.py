"""Kinds of loops: steps, steps by hand, loops in loops, code around the inner loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.backprop_torch.cutting import Cut
from tests.backprop_torch.kinds._parts import dataset, network, train_step


def _loader() -> DataLoader[Any]:
    return DataLoader(dataset(), batch_size=5, shuffle=True)


def _parts() -> tuple[nn.Module, torch.optim.Optimizer, list[float]]:
    model = network()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2), []


def _result(
    model: nn.Module, optimizer: torch.optim.Optimizer, losses: list[float], **more: Any
) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses, **more}


def steps(cut: Cut) -> dict[str, Any]:
    """Batches drawn at random, no loader."""
    model, optimizer, losses = _parts()
    x, y = dataset().tensors
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for step in box.steps(24):
            assert step == len(losses)
            chosen = torch.randint(0, 42, (6,))
            losses.append(train_step(model, optimizer, x[chosen], y[chosen]))
            cut.reached(len(losses))
    return _result(model, optimizer, losses)


def steps_by_hand(cut: Cut) -> dict[str, Any]:
    """A while loop that counts for itself and calls box.step()."""
    model, optimizer, losses = _parts()
    x, y = dataset().tensors
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        while len(losses) < 24:
            chosen = torch.randint(0, 42, (6,))
            losses.append(train_step(model, optimizer, x[chosen], y[chosen]))
            cut.reached(len(losses))
            box.step(loss=losses[-1])
    return _result(model, optimizer, losses)


def steps_over_a_cycling_loader(cut: Cut) -> dict[str, Any]:
    """box.steps outside, passes over a loader one after another inside, noise drawn before each batch."""
    model, optimizer, losses = _parts()
    loader = _loader()

    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:

        def forever() -> Iterator[Any]:
            while True:
                yield from box.batches(loader)

        batches = forever()
        for _ in box.steps(30):
            noise = torch.randn(6)
            x, y = next(batches)
            losses.append(train_step(model, optimizer, x + 0.1 * noise, y))
            cut.reached(len(losses))
    return _result(model, optimizer, losses)


def two_loaders_together(cut: Cut) -> dict[str, Any]:
    """zip over two passes."""
    model, optimizer, losses = _parts()
    other = DataLoader(dataset(30), batch_size=4, shuffle=True)
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for _ in box.epochs(3):
            for (x, y), (x2, y2) in zip(box.batches(_loader()), box.batches(other), strict=False):
                losses.append(train_step(model, optimizer, torch.cat([x, x2]), torch.cat([y, y2])))
                cut.reached(len(losses))
    return _result(model, optimizer, losses)


def steps_inside_batches(cut: Cut) -> dict[str, Any]:
    """Several steps on each batch: a cut between them goes on with the same batch."""
    model, optimizer, losses = _parts()
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for _ in box.epochs(2):
            for x, y in box.batches(_loader()):
                for _ in box.steps(3):
                    losses.append(train_step(model, optimizer, x, y))
                    cut.reached(len(losses))
    return _result(model, optimizer, losses)


def code_around_the_inner_loop(cut: Cut) -> dict[str, Any]:
    """History is written at the start of an epoch, the schedule moves at its end; one of the cuts is an epoch's end."""
    model, optimizer, losses = _parts()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)
    history: list[Any] = []
    with cut.box(
        model=model, optimizer=optimizer, losses=losses, scheduler=scheduler, history=history
    ) as box:
        history.append(["the box is open"])
        for epoch in box.epochs(5):
            history.append([epoch, "begins", torch.rand(1).item()])
            for x, y in box.batches(_loader()):
                losses.append(train_step(model, optimizer, x, y))
                cut.reached(len(losses))
                if len(losses) in (9, 27) and cut.at in (8, 26):
                    cut.strike()
            scheduler.step()
            history[-1].append(torch.rand(1).item())
        history.append(["over"])
    return _result(model, optimizer, losses, history=history, scheduler=scheduler.state_dict())


def two_trainings_after_another(cut: Cut) -> dict[str, Any]:
    """Pretraining and fine-tuning in one box, the second with another loader and no epochs."""
    model, optimizer, losses = _parts()
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for _ in box.epochs(2):
            for x, y in box.batches(_loader()):
                losses.append(train_step(model, optimizer, x, y))
                cut.reached(len(losses))
        for group in optimizer.param_groups:
            group["lr"] *= 0.1
        for x, y in box.batches(DataLoader(dataset(30), batch_size=3, shuffle=True)):
            losses.append(train_step(model, optimizer, x, y))
            cut.reached(len(losses))
        for _ in box.steps(6):
            x, y = dataset().tensors
            losses.append(train_step(model, optimizer, x, y))
            cut.reached(len(losses))
    return _result(model, optimizer, losses)


def validation_in_the_middle(cut: Cut) -> dict[str, Any]:
    """Every fourth step a validation through box.batches, and an epoch that is left by break."""
    model, optimizer, losses = _parts()
    checks = DataLoader(dataset(20), batch_size=8, shuffle=True)
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for epoch in box.epochs(3):
            for x, y in box.batches(_loader()):
                losses.append(train_step(model, optimizer, x, y))
                cut.reached(len(losses))
                if len(losses) % 4 == 0:
                    model.eval()
                    for u, v in box.batches(checks):
                        losses.append(nn.functional.cross_entropy(model(u), v).item())
                        cut.reached(len(losses))
                    model.train()
                if epoch == 1 and len(losses) > 36:
                    break
    return _result(model, optimizer, losses)


def a_warm_up_before_the_loop(cut: Cut) -> dict[str, Any]:
    """Code between the box and the loop trains a little and draws random numbers; on a resume it runs again."""
    model, optimizer, losses = _parts()
    x, y = dataset().tensors
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        losses.append(train_step(model, optimizer, x, y))
        cut.reached(len(losses))
        torch.rand(3)
        for _ in box.epochs(3):
            for batch in box.batches(_loader()):
                losses.append(train_step(model, optimizer, *batch))
                cut.reached(len(losses))
    return _result(model, optimizer, losses)


def cut_between_epochs(cut: Cut) -> dict[str, Any]:
    """The stop is asked for behind a validation, behind the schedule's step, or in front of an epoch's first batch."""
    model, optimizer, losses = _parts()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)
    checks = DataLoader(dataset(20), batch_size=8, shuffle=True)
    validated: list[float] = []
    place = ("behind the validation", "at the end", "at the beginning")[cut.piece % 3]

    struck = f"TEST_STRUCK_{cut.piece}_{id(cut)}"  # in the environment: a variable would come back from the checkpoint

    def passes(here: str) -> None:
        if (
            here in (place, "step")
            and cut.at is not None
            and len(losses) >= cut.at
            and struck not in os.environ
        ):
            os.environ[struck] = here
            cut.strike()

    objects = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    with cut.box(**objects, losses=losses, validated=validated) as box:
        for _ in box.epochs(7):
            torch.rand(1)
            passes("at the beginning")
            for x, y in box.batches(_loader()):
                losses.append(train_step(model, optimizer, x, y))
            model.eval()
            for u, v in box.batches(checks):
                validated.append(nn.functional.cross_entropy(model(u), v).item())
            passes("behind the validation")
            model.train()
            scheduler.step()
            passes("at the end")
        for _ in box.steps(8):  # a cut that was drawn behind the last epoch lies here
            losses.append(train_step(model, optimizer, *dataset().tensors))
            passes("step")
    return _result(model, optimizer, losses, scheduler=scheduler.state_dict(), validated=validated)
