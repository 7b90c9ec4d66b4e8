"""A script with many shapes of training loop: plain_loops.py SHAPE TRACE PAUSE. It has never heard of us."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SHAPE, TRACE, PAUSE = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
EPOCHS, BATCHES = 3, 30


def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(
        torch.randn(BATCHES * 4, 6, generator=generator),
        torch.randint(0, 3, (BATCHES * 4,), generator=generator),
    )


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3))


def note(model: nn.Module) -> None:
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.numpy().tobytes())
    with TRACE.open("a") as trace:
        trace.write(digest.hexdigest()[:16] + "\n")
    time.sleep(PAUSE)


def batches() -> Any:
    return DataLoader(data(), batch_size=4, shuffle=True)


def closure() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    for _ in range(EPOCHS):
        for x, y in LOADER:

            def evaluate(x: Any = x, y: Any = y) -> torch.Tensor:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            optimizer.step(evaluate)
            note(model)


def accumulation() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(EPOCHS):
        for number, (x, y) in enumerate(LOADER):
            (nn.functional.cross_entropy(model(x), y) / 2).backward()
            if number % 2:
                optimizer.step()
                optimizer.zero_grad()
                note(model)


def compiled() -> None:
    model = network()
    fast = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.Adam(fast.parameters())
    for _ in range(EPOCHS):
        for x, y in LOADER:
            optimizer.zero_grad()
            nn.functional.cross_entropy(fast(x), y).backward()
            optimizer.step()
            note(model)


def scaler() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaling = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * BATCHES)
    for _ in range(EPOCHS):
        for x, y in LOADER:
            optimizer.zero_grad()
            scaling.scale(nn.functional.cross_entropy(model(x), y)).backward()
            scaling.step(optimizer)
            scaling.update()
            schedule.step()
            note(model)


def inside_a_function() -> None:
    for _ in range(1):  # model and optimizer are made behind the first fetch
        parts: dict[str, Any] = {}
        for _ in range(EPOCHS):
            for x, y in LOADER:
                if not parts:
                    parts["model"] = network()
                    parts["optimizer"] = torch.optim.Adam(parts["model"].parameters())
                parts["optimizer"].zero_grad()
                nn.functional.cross_entropy(parts["model"](x), y).backward()
                parts["optimizer"].step()
                note(parts["model"])


def two_loaders() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    held_out = DataLoader(data(), batch_size=10)
    for _ in range(EPOCHS):
        for x, y in LOADER:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            note(model)
            model.eval()
            with torch.no_grad():  # behind each batch: a count of batches begins anew on a resume
                sum(model(z).sum() for z, _ in held_out)
            model.train()


def looked_at_first() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    first = iter(LOADER)
    model(next(first)[0])  # as tutorials look at a batch, and keep the iterator
    mean = sum(x.mean() for x, _ in LOADER) / BATCHES
    for _ in range(EPOCHS):
        spare = iter(LOADER)  # as tqdm.auto does
        for x, y in LOADER:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x - mean), y).backward()
            optimizer.step()
            note(model)
        del spare


def mean_from_a_file() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    kept = TRACE.with_suffix(".mean")
    if not kept.exists():
        torch.save(sum(x.mean() for x, _ in LOADER) / BATCHES, kept)
    mean = torch.load(kept)
    for _ in range(EPOCHS):
        for x, y in LOADER:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x - mean), y).backward()
            optimizer.step()
            note(model)


def two_at_once() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    twin = DataLoader(data(), batch_size=4, shuffle=True)  # looks as LOADER does
    seldom = DataLoader(data(), batch_size=12, shuffle=True)
    few = iter(seldom)
    for _ in range(EPOCHS):
        for (x, y), (u, _) in zip(LOADER, twin, strict=True):
            try:
                v, _ = next(few)
            except StopIteration:
                few = iter(seldom)
                v, _ = next(few)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y) + model(u).square().mean() + model(v).abs().mean()
            loss.backward()
            optimizer.step()
            note(model)


def accelerated() -> None:
    from accelerate import Accelerator

    made = network()
    accelerator = Accelerator(cpu=True)
    model, optimizer, loader = accelerator.prepare(made, torch.optim.Adam(made.parameters()), LOADER)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(model(x), y))
            optimizer.step()
            note(made)


def teacher_and_student() -> None:
    for rate in (0.1, 0.01):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for _ in range(EPOCHS):
            for x, y in LOADER:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                note(model)


def fine_tuning() -> None:
    model = network()
    other = DataLoader(data(), batch_size=5, shuffle=True)
    for loader, parameters in ((LOADER, model[0].parameters()), (other, model.parameters())):  # type: ignore[index]
        optimizer = torch.optim.Adam(parameters)
        for _ in range(EPOCHS):
            for x, y in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                note(model)


def critic_first() -> None:
    model, critic = network(), nn.Linear(3, 1)
    often, seldom = (
        torch.optim.SGD(critic.parameters(), lr=0.05),
        torch.optim.SGD(model.parameters(), lr=0.05),
    )
    both = nn.ModuleList([model, critic])
    for _ in range(EPOCHS):
        for x, _ in LOADER:
            often.zero_grad()
            critic(model(x).detach()).mean().backward()
            often.step()
            if torch.rand(()).item() < 0.2:
                seldom.zero_grad()
                (-critic(model(x))).mean().backward()
                seldom.step()
            note(both)


def workers_that_stay() -> None:
    """They draw one seed for all passes, also those of a loader that the cut loop does not read."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    loader = DataLoader(data(), batch_size=4, shuffle=True, num_workers=2, persistent_workers=True)
    tests = {"test": DataLoader(data(), batch_size=40, num_workers=1, persistent_workers=True)}
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            note(model)
        with torch.no_grad():
            for x, _ in tests["test"]:
                model(x + torch.randn(6))


def shared_iterators() -> None:
    """The body of a loop asks for further batches what the loop goes over; an object holds another one."""

    class Feeder:
        def __init__(self) -> None:
            self.batches, self.given = iter(LOADER), 0

        def next(self) -> Any:
            self.given += 1
            try:
                return next(self.batches)[0]
            except StopIteration:
                self.batches = iter(LOADER)
                return next(self.batches)[0]

    model, feeder = network(), Feeder()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(EPOCHS * 2):
        both = iter(LOADER)
        for x, y in both:
            z, _ = next(both)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x + z * feeder.next()), y).backward()
            optimizer.step()
            note(model)


torch.manual_seed(0)
LOADER = batches()
globals()[SHAPE]()
