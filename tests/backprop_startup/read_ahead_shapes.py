"""Small trainings whose batches are made ahead in a thread: read_ahead_shapes.py SHAPE. They have never heard of us.

Making a batch draws from three generators that are not torch's, so a batch that is made twice, or left out, is seen.
"""

import queue
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

SHAPE = sys.argv[1]
torch.manual_seed(0)
random.seed(0)
np.random.seed(0)
rng = np.random.default_rng(3)
made = 0
MODEL = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2))
OPTIMIZER = torch.optim.Adam(MODEL.parameters(), 0.01)


class Points(Dataset):
    def __len__(self):
        return 28

    def __getitem__(self, index):
        x = torch.randn(3, generator=torch.Generator().manual_seed(index))
        return x + torch.tensor([random.random(), np.random.rand(), rng.random()]), index % 2, index


def collate(items):
    global made
    made += 1
    return [*torch.utils.data.default_collate(items), made]


class BackgroundGenerator(threading.Thread):
    """As many have copied it from prefetch_generator."""

    def __init__(self, generator, max_prefetch):
        threading.Thread.__init__(self)
        self.queue = queue.Queue(max_prefetch)
        self.generator = generator
        self.daemon = True
        self.start()

    def run(self):
        for item in self.generator:
            self.queue.put(item)
        self.queue.put(None)

    def __next__(self):
        item = self.queue.get()
        if item is None:
            raise StopIteration
        return item

    def __iter__(self):
        return self


class DataLoaderX(DataLoader):
    def __iter__(self):
        return BackgroundGenerator(super().__iter__(), 3)


class Ahead:
    """Gives a batch when the next is there."""

    def __init__(self, source):
        self.source = source

    def __iter__(self):
        first = True
        for batch in self.source:
            if not first:
                yield waiting  # noqa: F821 - as timm has it
            first, waiting = False, batch
        yield waiting


class Prefetcher:
    """Is asked by `next()`, and gives None at the end, as BasicSR's."""

    def __init__(self, source):
        self.batches = iter(source)

    def next(self):
        return next(self.batches, None)


def loader(kind=DataLoader, **more):
    return kind(Points(), batch_size=4, shuffle=True, collate_fn=collate, **more)


def step(number, batch):
    x, y, index, count = batch
    loss = torch.nn.functional.cross_entropy(MODEL(x), y)
    OPTIMIZER.zero_grad()
    loss.backward()
    OPTIMIZER.step()
    print("step", number, index.tolist(), count, x.double().sum().item(), loss.item())


def in_a_for_loop():
    batches = loader(DataLoaderX)
    for epoch in range(3):
        for _, batch in enumerate(batches):
            step(epoch, batch)


def asked_with_next():
    source = loader(DataLoaderX)
    batches = iter(source)
    for number in range(20):
        try:
            batch = next(batches)
        except StopIteration:
            batches = iter(source)
            batch = next(batches)
        step(number, batch)


def in_a_method():
    source = loader(DataLoaderX)
    for epoch in range(3):
        prefetcher = Prefetcher(source)
        batch = prefetcher.next()
        while batch is not None:
            step(epoch, batch)
            batch = prefetcher.next()


def a_queue():
    source = loader()
    for epoch in range(3):
        ready = queue.Queue(2)

        def fill(ready=ready):
            for batch in Ahead(source):
                ready.put(batch)
            ready.put(None)

        threading.Thread(target=fill, daemon=True).start()
        while True:
            batch = ready.get()
            if batch is None:
                break
            step(epoch, batch)


def one_thread_for_all():
    source, ready = loader(generator=torch.Generator().manual_seed(5)), queue.Queue(2)

    def fill():
        while True:
            for batch in source:
                ready.put(batch)

    threading.Thread(target=fill, daemon=True).start()
    for number in range(20):
        step(number, ready.get())


def futures():
    source, pool = loader(), ThreadPoolExecutor(1)
    for epoch in range(3):
        batches = iter(source)
        future = pool.submit(next, batches, None)
        while True:
            batch = future.result()
            if batch is None:
                break
            future = pool.submit(next, batches, None)
            step(epoch, batch)


def futures_without_a_loader():
    points, pool = Points(), ThreadPoolExecutor(1)

    def drawn():
        return collate([points[random.randrange(28)] for _ in range(4)])

    future = None
    for number in range(20):
        batch = drawn() if future is None else future.result()
        future = pool.submit(drawn)
        step(number, batch)


if __name__ == "__main__":
    globals()[SHAPE]()
    print("end")
