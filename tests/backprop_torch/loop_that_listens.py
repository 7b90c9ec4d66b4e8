"""A child process for the signal tests: `loop_that_listens.py MODE`. It says "ready" in its third step."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import backprop


def _until_told(box: backprop.TimeBox, losses: list[int]) -> Iterator[int]:
    for step in box.steps(100_000_000):
        losses.append(step) if step < 100 else None
        if step == 3:
            print("ready", flush=True)
        yield step


def plain() -> None:
    """A loop of short steps."""
    losses: list[int] = []
    with backprop.timebox("60s", run="listening", grace=0.3, losses=losses) as box:
        for _ in _until_told(box, losses):
            time.sleep(0.001)
    print(f"left: {box.outcome}, checkpoint {box.checkpoint is not None}", flush=True)


def patient() -> None:
    """A grace of 30 s; the step in which a signal is heard is printed."""
    losses: list[int] = []
    with backprop.timebox("1h", run="listening", checkpoint_every="1h", grace=30, losses=losses) as box:
        told = False
        for step in _until_told(box, losses):
            if box._running().requests.signalled and not told:
                told = True
                print(step, flush=True)
            time.sleep(0.001)


def own_usr1() -> None:
    """The script has a handler of its own for SIGUSR1, and one for SIGTERM that is back after the block."""
    signal.signal(signal.SIGUSR1, lambda number, frame: print("mine", flush=True))
    signal.signal(signal.SIGTERM, lambda number, frame: print("my SIGTERM", flush=True))
    plain()
    os.kill(os.getpid(), signal.SIGTERM)


class SignalHandler:
    """Stands for submitit's, which lets SIGTERM pass and saves, requeues and ends the process on its own signal."""

    def bypass(self, number: int, frame: FrameType | None = None) -> None:
        print("let pass", flush=True)

    def checkpoint_and_try_requeue(self, number: int, frame: FrameType | None = None) -> None:
        home = Path(os.environ["BACKPROP_HOME"])
        print(f"requeued, checkpoint {any(home.glob('runs/listening/checkpoints/step-*'))}", flush=True)
        sys.exit(-1)


def requeued() -> None:
    """As submitit runs a function."""
    for method in (SignalHandler.bypass, SignalHandler.checkpoint_and_try_requeue):
        method.__module__ = "submitit.core.job_environment"
    signal.signal(signal.SIGTERM, SignalHandler().bypass)
    signal.signal(signal.SIGUSR2, SignalHandler().checkpoint_and_try_requeue)
    plain()


def long_step() -> None:
    """A step that does not end."""
    with backprop.timebox("60s", run="listening", losses=[1]) as box:
        for step in box.steps(10):
            if step == 3:
                print("ready", flush=True)
                while not box._running().requests.signalled:
                    time.sleep(0.001)
                print("heard", flush=True)
                while True:
                    time.sleep(0.001)


def workers() -> None:
    """A DataLoader with two workers; no resistance to a signal for the whole group."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(torch.zeros(100_000, 2)), batch_size=1, num_workers=2)
    seen = torch.zeros(())
    with backprop.timebox("60s", run="listening", grace=20, seen=seen) as box:
        for _ in box.epochs(1000):
            for number, _batch in enumerate(box.batches(loader)):
                seen += 1
                if number == 3:
                    print("ready", flush=True)
    print(f"left: {box.outcome}, checkpoint {box.checkpoint is not None}, seen {seen > 0}", flush=True)


if __name__ == "__main__":
    modes = (plain, patient, own_usr1, requeued, long_step, workers)
    {mode.__name__: mode for mode in modes}[sys.argv[1]]()
