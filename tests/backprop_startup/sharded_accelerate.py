"""A plain loop with accelerate over a sharded model, without a word of boxes: sharded_accelerate.py TRACE PAUSE.

Each rank writes a line for each step into TRACE.<rank>: the step, and a digest of the gathered weights and optimizer.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from accelerated_shards import EPOCHS, digest, prepared, sharding_accelerator
from torch import nn

TRACE, PAUSE = Path(sys.argv[1]), float(sys.argv[2])


def main() -> None:
    accelerator = sharding_accelerator()
    model, optimizer, loader, schedule = prepared(accelerator)
    trace = TRACE.with_suffix(f".{dist.get_rank()}").open("a")
    total, steps = 0.0, 0
    for _ in range(EPOCHS):
        model.train()
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(x), y)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            steps += 1
            total += loss.item()
            print(steps, digest(model, optimizer), total, random.random(), file=trace, flush=True)
            time.sleep(PAUSE)
        model.eval()
        with torch.no_grad():
            model(torch.ones(2, 4))
    sys.stdout.write(f"rank {dist.get_rank()}: {steps} steps, {total:.9f}, {digest(model, optimizer)}\n")
    dist.destroy_process_group()


main()
