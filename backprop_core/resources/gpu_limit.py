"""What the environment has to say for `-g` to hold inside the script; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from backprop_core import contract
from backprop_core.resources.running import gpu_allowance_bytes
from backprop_core.resources.samples import GpuSample

_JAX, _JAX_NEW = "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"


def limit_environ(limit: str | None, gpus: Sequence[GpuSample], environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that hold JAX to the limit, and tell the others how large the GPUs are.

    Args:
        limit: "80%", "8" (GB), or None for no limit.
        gpus: those that the run was given; the smallest counts.
        environ: of the script; a smaller fraction that the user has set for JAX stays.
    """
    if limit is None:
        return {}
    totals = [gpu.memory_total_bytes for gpu in gpus]
    total = min((known for known in totals if known), default=None) if all(totals) else None
    ours = {} if total is None else {contract.GPU_MEMORY_TOTAL: str(total)}
    share = _share(limit, total)
    if share is None:
        return ours
    name = _JAX_NEW if environ.get(_JAX_NEW) else _JAX  # JAX refuses to start with both
    return {**ours, name: f"{_with_users(share, environ.get(name, '')):.4f}"}


def unheld(limit: str | None, gpus: Sequence[GpuSample]) -> str:
    """A sentence about what the limit cannot be enforced in, or the empty string."""
    if limit is None or limit_environ(limit, gpus, {}).get(contract.GPU_MEMORY_TOTAL):
        return ""
    whom = "TensorFlow" if limit.endswith("%") else "JAX"
    return f"the GPU's memory size is unknown, so -g {limit} cannot be enforced in {whom}."


def _share(limit: str, total_bytes: int | None) -> float | None:
    """The part of the memory that may be used, rounded down; None where it cannot be told."""
    if limit.endswith("%"):
        part = float(limit[:-1]) / 100
    elif total_bytes:
        part = (gpu_allowance_bytes(limit, total_bytes) or 0) / total_bytes
    else:
        return None
    return max(1, math.floor(min(1.0, part) * 10_000)) / 10_000


def _with_users(share: float, users: str) -> float:
    try:
        return min(share, float(users))
    except ValueError:
        return share
