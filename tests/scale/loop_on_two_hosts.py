"""A plain DDP loop that has never heard of us: loop_on_two_hosts.py FOLDER WHERE.

Once there is a checkpoint, the second rank waits at WHERE until somebody has cut the link between the hosts: in a step, when
the ranks begin to talk, when it has to give its part of a save, or nowhere. FOLDER/reached says so, FOLDER/is-cut answers.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

FOLDER, WHERE = Path(sys.argv[1]), sys.argv[2]
STEPS, STEP_S = 300, 0.05


def wait_for_the_cut() -> None:
    place = os.environ.get("BACKPROP_CHECKPOINT_DIR", "")
    if (FOLDER / "reached").exists() or not place or not any(Path(place).glob("step-*/manifest.json")):
        return
    (FOLDER / "reached").touch()
    while not (FOLDER / "is-cut").exists():
        time.sleep(0.01)


def wait_before(cls: Any, name: str) -> None:
    original: Callable[..., Any] = getattr(cls, name)

    def late(*arguments: Any) -> Any:
        wait_for_the_cut()
        return original(*arguments)

    setattr(cls, name, late)


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    if rank == 1 and WHERE in ("talk", "save"):
        from backprop_core.session.other_ranks import FollowingSession
        from backprop_torch.ranks import Together

        wait_before(*((Together, "hear") if WHERE == "talk" else (FollowingSession, "_give")))
    torch.manual_seed(rank)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.Linear(16, 2)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    total = 0.0
    for step in range(STEPS):
        if WHERE == "step" and rank == 1 and step > 20:
            wait_for_the_cut()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(4, 8)), torch.arange(4) % 2)
        torch.autograd.backward(loss)
        optimizer.step()
        total += loss.item()
        time.sleep(STEP_S)
    weights = b"".join(one.detach().numpy().tobytes() for one in model.parameters())
    # in one write: two ranks share a pipe
    sys.stdout.write(f"rank {rank}: {STEPS} steps {total} {hashlib.sha256(weights).hexdigest()[:16]}\n")
    sys.stdout.flush()
    dist.destroy_process_group()


main()
