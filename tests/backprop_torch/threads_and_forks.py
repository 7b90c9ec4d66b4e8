"""Trainings whose loader is read by a thread, each in a fresh fork, beside threads that collect garbage, free and fork.

`python -m tests.backprop_torch.threads_and_forks STARTS FOLDER` prints one JSON object: what each start ended with, and the
traces of those that a signal ended.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import backprop

BATCHES = 24


class Background(DataLoader[Any]):
    """Gives its iterator to a thread with a queue, as stock prefetching loaders do."""

    def __iter__(self) -> Any:
        iterator, batches = super().__iter__(), queue.Queue[Any](4)
        over = object()

        def read() -> None:
            for batch in iterator:
                batches.put(batch)
            batches.put(over)

        threading.Thread(target=read, daemon=True).start()
        while (batch := batches.get()) is not over:
            yield batch


def _until(over: threading.Event, what: Callable[[], Any], every_s: float) -> threading.Thread:
    def work() -> None:
        while not over.wait(every_s):
            what()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _collect() -> None:
    ring: list[Any] = [torch.empty(1000)]
    ring.append(ring)
    del ring
    gc.collect()


def _make_and_free() -> None:
    for _ in range(5):
        made = nn.Linear(64, 64)
        made(torch.randn(4, 64)).sum().backward()


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def train(number: int) -> None:
    """One training, saved as often as it can be, with all that goes on beside it."""
    torch.manual_seed(number)
    model = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    data = TensorDataset(torch.randn(BATCHES * 8, 32), torch.randint(0, 2, (BATCHES * 8,)))
    loader = Background(data, batch_size=8, shuffle=True)
    over = threading.Event()
    beside = [_until(over, _collect, 0.05), _until(over, _make_and_free, 0.005), _until(over, _fork, 0.1)]
    try:
        with backprop.timebox("60s", checkpoint_every=0.001, run=f"start-{number}"):
            for x, y in loader:
                optimizer.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
    finally:
        over.set()
        for thread in beside:
            thread.join(60)


def main() -> None:
    """Fork a fresh process for each start and say how it ended."""
    starts, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    ends, traces = [], {}
    for number in range(starts):
        trace = folder / f"trace-{number}"
        child = os.fork()
        if child == 0:
            os.environ["BACKPROP_HOME"] = str(folder / "home")
            status = 1
            with trace.open("w") as file:
                faulthandler.enable(file)
                faulthandler.dump_traceback_later(120, exit=True, file=file)
                try:
                    train(number)
                    status = 0
                finally:
                    sys.stdout.flush()
                    os._exit(status)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if ends[-1]:
            traces[number] = trace.read_text()[-6000:]
    print(json.dumps({"ends": ends, "traces": traces}))


if __name__ == "__main__":
    main()
