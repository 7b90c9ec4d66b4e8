"""Stand-ins for `torch` and `tensorflow` on a machine with GPUs, as far as memory limits go: packages on the import path.

Put `write_gpu_frameworks(folder)` into PYTHONPATH. Each keeps what it was asked in `calls`; GPUs and their sizes are read
from FAKE_GPUS_MIB, such as `24576,8192`.
"""

from __future__ import annotations

from pathlib import Path


def write_gpu_frameworks(folder: Path) -> Path:
    """Write both packages into `folder`, which is made if it is missing; returns it."""
    for name, text in (
        ("torch/__init__.py", "from torch import cuda\n"),
        ("torch/cuda.py", _CUDA),
        ("tensorflow/__init__.py", "from tensorflow import config\n"),
        ("tensorflow/config/__init__.py", _CONFIG),
        ("tensorflow/config/experimental.py", _EXPERIMENTAL),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


_CUDA = '''
"""As torch.cuda: nothing is started before it is used, and calls may be queued behind the start."""
import os
from contextlib import contextmanager
from types import SimpleNamespace

_SIZES = [int(size) * 2**20 for size in os.environ.get("FAKE_GPUS_MIB", "24576").split(",") if size]
_queued, _state = [], {"initialized": False, "starting": False, "device": 0}
calls = []


def is_initialized():
    return _state["initialized"]


def _lazy_call(function):
    function() if is_initialized() else _queued.append(function)


def init():
    if is_initialized() or _state["starting"]:
        return
    if not _SIZES:
        raise AssertionError("Torch not compiled with CUDA enabled")
    _state["starting"] = True
    for function in _queued:
        function()
    _state["starting"], _state["initialized"] = False, True


def device_count():
    return len(_SIZES)


def current_device():
    init()
    return _state["device"]


@contextmanager
def device(index):
    init()
    before, _state["device"] = _state["device"], index
    try:
        yield
    finally:
        _state["device"] = before


def get_device_properties(index):
    init()
    return SimpleNamespace(total_memory=_SIZES[index])


def set_per_process_memory_fraction(fraction, index=None):
    init()
    if os.environ.get("FAKE_TORCH_REFUSES"):
        raise RuntimeError("no such allocator")
    if not isinstance(fraction, float) or not 0 <= fraction <= 1:
        raise ValueError(fraction)
    index = _state["device"] if index is None else index
    _state["device"] = index  # as torch does
    calls.append((index, round(fraction, 4)))
'''

_CONFIG = '''
"""As tf.config: logical devices and memory growth exclude one another."""
import os
from collections import namedtuple
from tensorflow.config import experimental

PhysicalDevice = namedtuple("PhysicalDevice", "name device_type")
LogicalDeviceConfiguration = namedtuple("LogicalDeviceConfiguration", "memory_limit")
_GPUS = [PhysicalDevice(f"/physical_device:GPU:{n}", "GPU")
         for n, size in enumerate(os.environ.get("FAKE_GPUS_MIB", "24576").split(",")) if size]
calls = []


def list_physical_devices(device_type=None):
    cpu = [PhysicalDevice("/physical_device:CPU:0", "CPU")]
    return [d for d in cpu + _GPUS if device_type in (None, d.device_type)]


def set_logical_device_configuration(device, logical_devices):
    experimental._configured.append(device)
    calls.append((device.name, logical_devices[0].memory_limit))
'''

_EXPERIMENTAL = """
_configured, growing = [], []


def set_memory_growth(device, enable):
    if device in _configured:
        raise ValueError("Cannot set memory growth on device when virtual devices configured")
    growing.append(device.name)
"""
