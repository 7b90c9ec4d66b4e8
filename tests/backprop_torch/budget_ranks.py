"""Two ranks with a learning rate that follows the budget: `-m tests.backprop_torch.budget_ranks FOLDER RUN AT [REPLAY]`.

In its `AT`-th step rank 1 sends itself a SIGTERM. Each rank writes what it saw to FOLDER/RUN-<at>-<rank>.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import backprop
from backprop_torch import BudgetLR
from tests.backprop_torch.cutting import digest


def main() -> None:
    folder, run, at, replay = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), (sys.argv[4:] or [None])[0]
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    model = DistributedDataParallel(nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    box = backprop.timebox("5m", run=run, grace=0, model=model, optimizer=optimizer)
    scheduler = BudgetLR(optimizer, box, replay=replay)
    seen: list[list[float]] = []
    with box:
        for step in box.steps(80):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(2, (8,)))
            torch.autograd.backward(loss)
            optimizer.step()
            scheduler.step()
            seen.append([step, optimizer.param_groups[0]["lr"], loss.item()])
            if rank == 1 and len(seen) == at:
                os.kill(os.getpid(), signal.SIGTERM)
    told = {"seen": seen, "outcome": str(box.outcome), "weights": digest(model.state_dict())}
    (folder / f"{run}-{at}-{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
