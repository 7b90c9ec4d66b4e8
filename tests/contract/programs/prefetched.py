"""A loop whose batches come through something that reads ahead: `CONTRACT_PREPARED` names what, from the outside in."""

import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from state_kinds.trace import note
from torch.utils.data import DataLoader, Dataset

FORM, HOW = sys.argv[1], os.environ["CONTRACT_PREPARED"].split("+")
torch.manual_seed(0)


class Points(Dataset[Any]):
    def __len__(self) -> int:
        return 28

    def __getitem__(self, index: int) -> Any:
        draw = torch.Generator().manual_seed(index)
        return torch.randn(3, generator=draw), index % 2, index


class Ahead:
    """Gives a batch when the next is there, as timm's and apex's do."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        waiting, first = None, True
        for batch in self.source:
            if not first:
                yield waiting
            waiting, first = batch, False
        yield waiting


class Window:
    """Holds three batches."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        held: deque[Any] = deque()
        for batch in self.source:
            held.append(batch)
            if len(held) == 3:
                yield held.popleft()
        yield from held


class Threaded:
    """A thread that reads up to two batches ahead."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        ready: queue.Queue[Any] = queue.Queue(2)

        def fill() -> None:
            for batch in self.source:
                ready.put(batch)
            ready.put(None)

        threading.Thread(target=fill, daemon=True).start()
        while (batch := ready.get()) is not None:
            yield batch


class Prefetcher:
    """Is asked by `next()`, and gives None at the end, as apex's is."""

    def __init__(self, source: Any) -> None:
        self.loader = iter(source)
        self.preload()

    def preload(self) -> None:
        self.batch = next(self.loader, None)

    def next(self) -> Any:
        batch = self.batch
        self.preload()
        return batch


with torch.random.fork_rng():
    torch.manual_seed(7)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2))
optimizer = torch.optim.Adam(model.parameters(), 0.01)
loader: Any = DataLoader(Points(), batch_size=4, shuffle=True)
for how in reversed(HOW):
    loader = {"ahead": Ahead, "window": Window, "threaded": Threaded, "prefetcher": lambda source: source}[
        how
    ](loader)


def one(epoch: int, batch: Any) -> None:
    x, y, index = batch
    loss = torch.nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    note({"epoch": repr(epoch), "index": repr(index.tolist()), "loss": repr(loss.item())})


def train() -> None:
    for epoch in range(3):
        if HOW[0] == "prefetcher":
            prefetcher = Prefetcher(loader)
            batch = prefetcher.next()
            while batch is not None:
                one(epoch, batch)
                batch = prefetcher.next()
            continue
        for batch in loader:
            one(epoch, batch)


def boxed() -> bool:
    import backprop

    with backprop.timebox("10h", run="cut", grace=0, model=model, optimizer=optimizer) as box:
        for epoch in box.epochs(3):
            for batch in box.batches(loader):
                one(epoch, batch)
    return box.outcome.value == "completed"


if FORM == "explicit" and os.environ["CONTRACT_RUN"] != "whole":
    completed = boxed()
else:
    train()
    completed = True
if completed:
    note({"end": "reached"})
