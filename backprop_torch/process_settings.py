"""What torch keeps for the whole process: the default dtype, flags of its backends, how numbers are printed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from backprop_core.ports.framework import ProcessSetting

_FLAGS = {
    "torch.backends.cudnn": ("enabled", "benchmark", "deterministic", "allow_tf32"),
    "torch.backends.cuda.matmul": (  # its allow_tf32 follows from the precision of multiplications
        "allow_fp16_reduced_precision_reduction",
        "allow_bf16_reduced_precision_reduction",
    ),
    "torch.backends.mkldnn": ("enabled",),
}
_PRINTED = ("precision", "threshold", "edgeitems", "linewidth", "sci_mode")


def settings() -> Mapping[str, ProcessSetting]:
    """All by the names that scripts use. Flags that this build of torch lacks are left out."""
    anomaly = (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled())
    found = {
        "torch.set_default_dtype": ProcessSetting(_name(torch.get_default_dtype()), _set_dtype),
        "torch.set_default_device": ProcessSetting(_device(), torch.set_default_device),
        "torch.set_num_threads": ProcessSetting(torch.get_num_threads(), torch.set_num_threads),
        "torch.use_deterministic_algorithms": ProcessSetting(
            torch.get_deterministic_debug_mode(), torch.set_deterministic_debug_mode
        ),
        "torch.autograd.set_detect_anomaly": ProcessSetting(anomaly, lambda both: _set_anomaly(*both)),
    }
    with suppress(RuntimeError):  # newer flags have taken its place, and it cannot be read
        precision = torch.get_float32_matmul_precision()
        found["torch.set_float32_matmul_precision"] = ProcessSetting(
            precision, torch.set_float32_matmul_precision
        )
    for place, names in _FLAGS.items():
        holder: Any = torch.backends
        for part in place.split(".")[2:]:
            holder = getattr(holder, part)
        for name in names:
            with suppress(AttributeError, RuntimeError):
                found[f"{place}.{name}"] = ProcessSetting(
                    getattr(holder, name), partial(setattr, holder, name)
                )
    options = getattr(getattr(torch, "_tensor_str", None), "PRINT_OPTS", None)
    for name in _PRINTED:
        if hasattr(options, name):
            found[f"torch.set_printoptions {name}"] = ProcessSetting(
                getattr(options, name), partial(setattr, options, name)
            )
    return found


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _set_dtype(name: str) -> None:
    torch.set_default_dtype(getattr(torch, name))


def _device() -> str | None:
    """The device that a script has made the default, or None."""
    found = torch.get_default_device()
    return None if found.type == "cpu" else str(found)


def _set_anomaly(enabled: bool, check_nan: bool) -> None:
    torch.autograd.set_detect_anomaly(enabled, check_nan)
