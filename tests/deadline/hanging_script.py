"""A training whose step hangs at a chosen step, in a chosen way. Prints each step it begins.

"slow" is a step of 4 s that begins so many seconds before the deadline.
"""

import os
import select
import sys
import threading

import torch
from torch import nn

import backprop

HOW, AT, STEP_S = sys.argv[1], int(sys.argv[2]), 0.05
BUDGET = sys.argv[3] if len(sys.argv) > 3 else None


def hang() -> None:
    if HOW == "lock":
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    elif HOW == "system call":
        reader, _ = os.pipe()
        os.read(reader, 1)
    elif HOW == "python loop":
        while True:
            pass
    elif HOW == "slow":  # far longer than any step before, but it ends
        select.select([], [], [], 4.0)
    elif HOW == "c loop":  # keeps the interpreter lock: a pattern that backtracks for ever
        import re

        re.match(r"(a+)+$", "a" * 64 + "b")


def main() -> None:
    torch.manual_seed(0)
    model = nn.Linear(64, 64)
    optimizer = torch.optim.Adam(model.parameters())
    wait = threading.Event()
    with backprop.timebox(BUDGET, model=model, optimizer=optimizer) as box:
        for step in box.steps(100_000):
            print(f"step {step}", flush=True)
            optimizer.zero_grad()
            model(torch.randn(8, 64)).square().mean().backward()
            if (box.remaining < AT) if HOW == "slow" else (step == AT):
                hang()
            optimizer.step()
            wait.wait(STEP_S)
    print(f"left: {box.outcome} {box.checkpoint}", flush=True)


if __name__ == "__main__":
    main()
