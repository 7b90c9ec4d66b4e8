"""The same training in a box of its own: sharded_accelerate_box.py FOLDER RUN STOP.

Behind batch STOP (0: never) the last rank sends itself a SIGTERM. Each rank adds a line for each batch to FOLDER/RUN.<rank>.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import torch.distributed as dist
from accelerated_shards import BATCHES, EPOCHS, digest, prepared, sharding_accelerator
from torch import nn

import backprop

FOLDER, RUN, STOP = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])


def main() -> None:
    accelerator = sharding_accelerator()
    model, optimizer, loader, schedule = prepared(accelerator)
    rank = dist.get_rank()
    trace = (FOLDER / f"{RUN}.{rank}").open("a")
    named = {"model": model, "optimizer": optimizer, "schedule": schedule}
    with backprop.timebox("10h", run=RUN, grace=0, **named) as box:  # type: ignore[arg-type]
        for epoch in box.epochs(EPOCHS):
            for number, (x, y) in enumerate(box.batches(loader), start=1):
                with accelerator.accumulate(model):
                    loss = nn.functional.cross_entropy(model(x), y)
                    accelerator.backward(loss)
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
                print(digest(model, optimizer), loss.item(), random.random(), file=trace, flush=True)
                if epoch * BATCHES + number == STOP and rank == dist.get_world_size() - 1:
                    os.kill(os.getpid(), signal.SIGTERM)
    print(f"rank {rank}: {box.outcome}", flush=True)
    dist.destroy_process_group()


main()
