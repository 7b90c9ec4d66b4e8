"""Scripts as people write them, each with state of its own in its variables: whole_scripts.py SHAPE TRACE PAUSE."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPE, TRACE, PAUSE = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
step_count = 0


def note(*values: Any) -> None:
    digest = hashlib.sha256(b"".join(np.asarray(value).tobytes() for value in values)).hexdigest()[:16]
    with TRACE.open("a") as trace:
        trace.write(digest + "\n")
    time.sleep(PAUSE)


def averaged() -> None:
    """Function locals, a dictionary of averaged weights, OneCycleLR, a best value, then a while loop; no DataLoader."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    text = torch.randint(0, 20, (400,))
    model = nn.Sequential(nn.Embedding(20, 8), nn.Dropout(0.1), nn.Linear(8, 20))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)

    def loss_at(place: int) -> torch.Tensor:
        return nn.functional.cross_entropy(model(text[place : place + 16]), text[place + 1 : place + 17])

    def train(epochs: int) -> tuple[float, dict[str, torch.Tensor]]:
        global step_count
        best, history = float("inf"), []
        ema = {name: value.clone() for name, value in model.state_dict().items()}
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * 10)
        for _epoch in range(epochs):
            total = 0.0
            for _number, place in enumerate(range(0, 320, 32)):
                loss = loss_at(place)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                step_count += 1
                total += loss.item()
                for name, value in model.state_dict().items():
                    ema[name].mul_(0.9).add_(value, alpha=0.1)
                note(loss.item(), ema["2.weight"], step_count)
            history.append(total)
            best = min(best, total)
            note(best, len(history), schedule.get_last_lr()[0])
        return best, ema

    best, ema = train(3)
    while step_count < 45:
        loss = loss_at(step_count * 7 % 380)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step_count_up()
        note(loss.item(), best, ema["0.weight"])


def step_count_up() -> None:
    global step_count
    step_count += 1


def own_sgd() -> None:
    """No torch.optim: gradients are applied by hand, a hidden state is carried from batch to batch."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.RNN(4, 6)
    data = torch.randn(40, 5, 2, 4)
    for epoch in range(2):
        hidden = torch.zeros(1, 2, 6)
        for batch in range(20):
            output, hidden = model(data[epoch * 20 + batch], hidden.detach())
            model.zero_grad()
            output.square().mean().backward()
            for p in model.parameters():
                p.data.add_(p.grad, alpha=-0.05)
            note(hidden.detach(), output.detach())


def trainer_class() -> None:
    """A Trainer object that holds everything, an endless loop over `next(iter)`, and an early stop."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    class Trainer:
        def __init__(self) -> None:
            torch.manual_seed(0)
            self.model = torch.nn.Linear(3, 1)
            self.loader = DataLoader(TensorDataset(torch.randn(30, 3)), batch_size=4, shuffle=True)
            self.seen: list[float] = []
            self.patience = 0
            self.best = float("inf")

        def run(self) -> None:
            optimizer = torch.optim.SGD(self.model.parameters(), 0.05)
            batches = iter(self.loader)
            while True:
                try:
                    (x,) = next(batches)
                except StopIteration:
                    batches = iter(self.loader)
                    (x,) = next(batches)
                loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                self.seen.append(loss.item())
                self.patience = 0 if loss.item() < self.best else self.patience + 1
                self.best = min(self.best, loss.item())
                note(loss.item(), self.patience, len(self.seen))
                if self.patience > 12 or len(self.seen) >= 50:
                    break

    Trainer().run()


def stream() -> None:
    """Batches from a generator, folds, and a list of results that grows."""
    import torch

    def batches(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(15):
            yield torch.randn(4, 3, generator=generator)

    results = []
    for fold in range(3):
        torch.manual_seed(fold)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.Adam(model.parameters())
        total = 0.0
        for x in batches(fold):
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            note(loss.item(), total, len(results))
        results.append(total)
    note(*results)


def _noisy(batches: int) -> Any:
    """A shuffled loader over a few batches, and a model with dropout, so that every pass begins in a state of its own."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    rows = torch.arange(batches * 4, dtype=torch.float32).reshape(-1, 1)
    loader = DataLoader(TensorDataset(rows.sin().repeat(1, 3) + rows / 50), batch_size=4, shuffle=True)
    model = nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.2), nn.Linear(6, 1))
    return loader, model, torch.optim.Adam(model.parameters(), 1e-2)


def _step(model: Any, optimizer: Any, x: Any) -> None:
    loss = model(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    note(loss.item(), x)


def _cycle(loader: Any) -> Any:
    while True:
        for batch in loader:  # noqa: UP028 - as people write it
            yield batch


def _one_ahead(loader: Any) -> Any:
    """Holds a batch back, also from one pass over the data to the next."""
    held = None
    for _ in range(1000):
        for batch in loader:
            if held is not None:
                yield held
            held = batch


def endless() -> None:
    """Two generators in a dictionary and one in an attribute, asked with next; one that nobody ever asks."""
    import torch

    torch.manual_seed(0)
    loader, model, optimizer = _noisy(7)
    other, _, _ = _noisy(5)

    class Source:
        def __init__(self) -> None:
            self.batches = _cycle(other)

    streams, source, never = {"a": _cycle(loader), "b": _one_ahead(other)}, Source(), _cycle(other)
    for _ in range(36):
        (x,), (y,), (z,) = next(streams["a"]), next(streams["b"], None), next(source.batches)
        _step(model, optimizer, x + y / 10 + z / 100)
    del never


def endless_in_loops() -> None:
    """Loops over zip, enumerate and the generator itself, each well into the second pass; a loop around another."""
    import torch

    torch.manual_seed(0)
    loader, model, optimizer = _noisy(7)
    for _, (x,) in zip(range(20), _one_ahead(loader), strict=False):
        _step(model, optimizer, x)
    for number, (x,) in enumerate(_cycle(loader)):
        if number == 20:
            break
        _step(model, optimizer, x)
    seen: list[int] = []
    for (x,) in _cycle(loader):
        for part in range(2):
            _step(model, optimizer, x * (part + 1))
        seen.append(len(x))
        if len(seen) == 10:
            break


def asked_twice_over() -> None:
    """One generator that a loop goes over, that its body asks with next, and that a comprehension asks in between."""
    from itertools import islice

    import torch

    torch.manual_seed(0)
    loader, model, optimizer = _noisy(7)
    batches = _cycle(loader)
    for _, (x,) in zip(range(24), batches, strict=False):
        (y,) = next(batches)
        more = [z for (z,) in islice(batches, 2)]
        _step(model, optimizer, x + y / 10 + sum(more) / 100)


def answered() -> None:
    """A generator that is told something each time, whose place nobody can count; another that is never asked."""
    import torch

    torch.manual_seed(0)
    _, model, optimizer = _noisy(1)

    def draws() -> Any:
        told = 0.0
        while True:
            told = yield torch.full((2, 3), told)

    answers, silent = draws(), draws()
    next(answers)
    for number in range(30):
        _step(model, optimizer, answers.send(float(number)))
    del silent


if __name__ == "__main__":
    globals()[SHAPE]()
