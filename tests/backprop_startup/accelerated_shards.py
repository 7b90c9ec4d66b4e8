"""What two scripts train: a model that accelerate has FSDP2 shard, on a processor."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, BATCHES = 3, 8


def sharding_accelerator() -> Accelerator:
    """accelerate 1.15 looks at its FSDP plugin on accelerators alone, and takes DDP on a processor: it is told to shard."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="size_based_wrap", min_num_params=20, cpu_ram_efficient_loading=False
    )
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    return accelerator


def prepared(accelerator: Accelerator) -> tuple[Any, Any, Any, Any]:
    """Model, optimizer, loader and schedule; each rank has random numbers of its own from here on."""
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.3), nn.ReLU(), nn.Linear(9, 7), nn.Linear(7, 2))
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule: Any = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    data = TensorDataset(torch.randn(64, 4, generator=torch.Generator().manual_seed(5)), torch.arange(64) % 2)
    loader: Any = DataLoader(data, batch_size=4, shuffle=True)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    assert all(hasattr(parameter, "full_tensor") for parameter in model.parameters()), "it is not sharded"
    torch.manual_seed(dist.get_rank())
    random.seed(dist.get_rank())
    return model, optimizer, loader, schedule


def digest(model: nn.Module, optimizer: Any) -> str:
    """Of the gathered state; every rank has to ask."""
    states = optimizer.state_dict()["state"]
    parts = [*model.state_dict().values(), *(one[key] for one in states.values() for key in sorted(one))]
    whole = [part.full_tensor() if hasattr(part, "full_tensor") else part for part in parts]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in whole)).hexdigest()[:12]
