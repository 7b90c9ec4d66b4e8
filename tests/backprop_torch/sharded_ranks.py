"""A training whose model is spread over ranks: `-m tests.backprop_torch.sharded_ranks FOLDER LAYOUT RUN STOP`.

LAYOUT is one of LAYOUTS. Behind step STOP (0: never) the last rank sends itself a SIGTERM. Every rank computes the same
batches, so that shards over two or four ranks train the same; the mean of three equal gradients may be another in its last
bit. The first rank writes digests of the gathered state, as it was found and after each step, to FOLDER/RUN-STOP.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

import backprop
from tests.backprop_torch.cutting import digest

STEPS = 12


class Net(nn.Module):
    """Sizes that no number of ranks divides."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(7, 13), nn.LayerNorm(13), nn.Linear(13, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.outer(torch.relu(self.norm(self.inner(x))))
        return out


def plain(net: Net, count: int) -> None:
    """One process."""


def fsdp(net: Net, count: int) -> None:
    mesh = init_device_mesh("cpu", (count,))
    for part in (net.inner, net.outer, net):
        fully_shard(part, mesh=mesh)


def hsdp(net: Net, count: int) -> None:
    """Shards over half of the ranks, replicas on the other half."""
    mesh = init_device_mesh("cpu", (2, count // 2), mesh_dim_names=("replicas", "shards"))
    for part in (net.inner, net.outer, net):
        fully_shard(part, mesh=mesh)


def tensor_parallel(net: Net, count: int) -> None:
    _columns(net, init_device_mesh("cpu", (count,)))


def both(net: Net, count: int) -> None:
    """Columns over two ranks, shards of these over the others."""
    mesh = init_device_mesh("cpu", (count // 2, 2), mesh_dim_names=("shards", "columns"))
    _columns(net, mesh["columns"])
    fully_shard(net, mesh=mesh["shards"])


def _columns(net: Net, mesh: Any) -> None:
    how = {name: ColwiseParallel(output_layouts=Replicate()) for name in ("inner", "outer")}
    parallelize_module(net, mesh, how)  # type: ignore[arg-type]


LAYOUTS: dict[str, Callable[[Net, int], None]] = {
    layout.__name__: layout for layout in (plain, fsdp, hsdp, tensor_parallel, both)
}


def gathered(state: Any) -> Any:
    """The same with whole tensors."""
    if isinstance(state, dict):
        return {key: gathered(value) for key, value in state.items()}
    return state.full_tensor() if hasattr(state, "full_tensor") else state


def digests(net: Net, optimizer: torch.optim.Optimizer) -> dict[str, str]:
    """Of the gathered state; every rank has to ask."""
    state = {"model": dict(net.state_dict()), "optimizer": optimizer.state_dict()["state"]}
    return {name: digest(gathered(part)) for name, part in state.items()}


def main() -> None:
    folder, layout, run, stop = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(1)
    if layout != "plain":
        dist.init_process_group("gloo")
    rank, count = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    fresh = len(sys.argv) > 5
    torch.manual_seed(0 if fresh else 99)  # a resume must not depend on the seed
    net = Net()
    LAYOUTS[layout](net, count)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    with backprop.timebox("10h", run=run, grace=0, model=net, optimizer=optimizer) as box:
        found, after = digests(net, optimizer), {}
        for step in box.steps(STEPS):
            torch.manual_seed(step)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(torch.randn(8, 7)), torch.arange(8))
            torch.autograd.backward(loss)
            optimizer.step()
            after[step + 1] = digests(net, optimizer)
            if step + 1 == stop and rank == count - 1:
                os.kill(os.getpid(), signal.SIGTERM)
    made = {"outcome": str(box.outcome), "found": found, "after": after}
    model = gathered(dict(net.state_dict()))
    if rank == 0:
        torch.save(model, folder / f"{run}-{stop}.pt")
        (folder / f"{run}-{stop}.json").write_text(json.dumps(made))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
