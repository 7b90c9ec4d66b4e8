"""Two ranks that have never heard of us, with something in one of them that we cannot cope with: odd_ranks.py KIND."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

KIND, EPOCHS = sys.argv[1], 6


def fault(*arguments: Any, **more: Any) -> None:
    raise RuntimeError("a fault of our own")


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    if KIND == "unsavable":
        optimizer.param_groups[0]["tag"] = object()
    if KIND == "part_of_one_rank" and rank == 1:
        scheduler.tag = lambda: None  # type: ignore[attr-defined]
    if KIND == "between_boundaries" and rank == 1:
        from backprop_core.loop.script_loop_state import ScriptLoopState

        setattr(ScriptLoopState, "entry", fault)  # noqa: B010
    if KIND == "at_one_boundary" and rank == 1:
        from backprop_core.loop.script_loop_state import ScriptLoopState

        setattr(ScriptLoopState, "can_be_found_again", fault)  # noqa: B010
    if KIND == "before_the_box" and rank == 1:
        from backprop_core.loop.script_loop_state import ScriptLoopState

        setattr(ScriptLoopState, "__init__", fault)  # noqa: B010
    if KIND == "set_up" and rank == 0:
        from backprop_core.session.session import Session

        setattr(Session, "weigh", fault)  # noqa: B010
    data = TensorDataset(torch.randn(80, 4), torch.arange(80) % 2)
    loader = DataLoader(data, batch_size=4, sampler=DistributedSampler(data))
    steps = 0
    for epoch in range(EPOCHS):
        for x, y in loader:
            if KIND == "boundary" and rank == 0 and steps == 8:
                from backprop_core.session.hands import SessionHands

                setattr(SessionHands, "collect", fault)  # noqa: B010
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            steps += 1
        scheduler.step()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    print(f"rank {rank} trained {steps} steps", flush=True)
    dist.destroy_process_group()


main()
