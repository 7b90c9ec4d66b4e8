"""Holds the script's process to `-g`: PyTorch and TensorFlow are told their share before they allocate anything.

JAX reads the environment, which the governor has set (`backprop_core/resources/gpu_limit.py`). Nothing here wakes a GPU that
the script does not use, and nothing here fails the script: what cannot be held is said in one line and watched from outside.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from backprop_core import contract
from backprop_core.own_line import print_line

_GB = 1024**3
_MB = 1024**2


def share_of(limit: str, total_bytes: float) -> float:
    """The part of a GPU with `total_bytes` that may be used, at most 1."""
    if limit.endswith("%"):
        return min(1.0, float(limit[:-1]) / 100)
    return min(1.0, float(limit) * _GB / total_bytes)


def limit_torch() -> None:
    """Right after `import torch`: the limit holds from the moment at which CUDA is first used, if ever. Never raises."""

    def hold() -> None:
        _tried("PyTorch", lambda: _hold_torch(cuda, os.environ))

    cuda = sys.modules["torch"].cuda
    # Run at once, or behind the start of CUDA: set_per_process_memory_fraction by itself would start it.
    _tried("PyTorch", lambda: cuda._lazy_call(hold))


def limit_tensorflow() -> None:
    """Right after `import tensorflow`, while its devices can still be set up. Never raises."""
    _tried("TensorFlow", lambda: _hold_tensorflow(sys.modules["tensorflow"].config, os.environ))


def _hold_torch(cuda: Any, environ: Mapping[str, str]) -> None:
    count = int(cuda.device_count())
    rank = environ.get("LOCAL_RANK", "")
    # A rank of torchrun uses one of several GPUs; on the others a limit would cost it a context of some hundred MB.
    devices = [int(rank)] if rank.isdigit() and int(rank) < count else range(count)
    for device in devices:
        with cuda.device(device):  # the call below leaves its device as the current one
            share = share_of(
                environ[contract.GPU_MEMORY_LIMIT], cuda.get_device_properties(device).total_memory
            )
            cuda.set_per_process_memory_fraction(share, device)


def _hold_tensorflow(config: Any, environ: Mapping[str, str]) -> None:
    gpus = config.list_physical_devices("GPU")
    if not gpus:
        return
    limit, total = environ[contract.GPU_MEMORY_LIMIT], environ.get(contract.GPU_MEMORY_TOTAL, "")
    if limit.endswith("%") and not total:
        raise ValueError("the GPU's memory size is unknown, so give a number of GB.")
    allowed = share_of(limit, float(total)) * float(total) if total else float(limit) * _GB
    configuration = [config.LogicalDeviceConfiguration(memory_limit=int(allowed / _MB))]
    for gpu in gpus:
        config.set_logical_device_configuration(gpu, configuration)
    _let_growth_pass(config.experimental, gpus)


def _let_growth_pass(experimental: Any, gpus: Any) -> None:
    """A script that asks for memory growth gets the limit instead of a ValueError: TensorFlow knows only one of the two."""
    own = experimental.set_memory_growth

    def set_memory_growth(device: Any, enable: bool) -> None:
        if device not in gpus:
            own(device, enable)

    experimental.set_memory_growth = set_memory_growth


def _tried(framework: str, what: Callable[[], object]) -> None:
    try:
        what()
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        limit = os.environ.get(contract.GPU_MEMORY_LIMIT)
        print_line(f"-g {limit} is not enforced in {framework}, only watched: {told[:300]}")
