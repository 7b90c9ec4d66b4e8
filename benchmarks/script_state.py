"""What finding and comparing a script's state costs: the first walk, a comparison, and what is stored.

    python -m benchmarks.script_state

Goal (DESIGN section 13): the first walk at most 0.2 s, whatever the script holds. The memory of a comparison is what Python
allocates meanwhile, beside the bytes of what the script holds: what has not changed is not copied.
"""

from __future__ import annotations

import functools
import json
import mmap
import tracemalloc
from collections import deque
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from backprop_core.clock import SYSTEM
from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import ScriptState
from backprop_torch.framework import TorchFramework


def _layers(count: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()) for _ in range(count))
    )


class _Hostile:
    """Attributes that raise, and properties that count who asks them."""

    asked = 0

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    @property
    def costly(self) -> int:
        type(self).asked += 1
        return type(self).asked


class _Lazy:
    """Loads an attribute when it is asked for, and remembers it then."""

    def __init__(self) -> None:
        self.path = "images.bin"

    def __getattr__(self, name: str) -> Any:
        if name != "loaded":
            raise AttributeError(name)
        _Hostile.asked += 1
        self.loaded = bytearray(1 << 20)
        return self.loaded

    @functools.cached_property
    def table(self) -> list[int]:
        _Hostile.asked += 1
        return list(range(100_000))

    @property
    def total(self) -> int:
        _Hostile.asked += 1
        return sum(range(100_000))


class _Proxy:
    """Says that it is something else, and passes everything on."""

    def __init__(self, behind: object) -> None:
        object.__setattr__(self, "_behind", behind)

    def __getattribute__(self, name: str) -> Any:
        _Hostile.asked += 1
        return getattr(object.__getattribute__(self, "_behind"), name)


def _hostile() -> dict[str, Any]:
    return {"objects": [_Hostile() for _ in range(1000)], "proxies": [_Proxy(_layers(1)) for _ in range(100)]}


def _graphs() -> dict[str, Any]:
    """Tensors that still hold their graphs, in cycles with modules and hooks."""
    model = _layers(12)
    kept = [model(torch.randn(4, 8)).sum() for _ in range(100)]
    for module in model:
        module.owner = [model, kept]  # type: ignore[assignment]
        module.register_forward_hook(lambda *_: None)
    return {"model": model, "kept": kept}


def _mapped(gigabytes: int) -> Any:
    """An array of which no page has been touched."""
    return np.frombuffer(mmap.mmap(-1, gigabytes << 30), np.float32)


SCRIPTS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "an ordinary script": lambda: {"model": _layers(12), "curve": [0.0] * 1000, "rng": np.random.default_rng(0)},
    "a model of 1,000 modules": lambda: {"model": _layers(250)},
    "a list of a million names": lambda: {"names": [f"image-{n}.png" for n in range(1_000_000)]},
    "a million small lists": lambda: {"tokens": [[n, n + 1] for n in range(1_000_000)]},
    "a dictionary of 100,000 numbers": lambda: {"seen": {n: n / 3 for n in range(100_000)}},
    "1 GB of tensors": lambda: {"data": [torch.zeros(1 << 26) for _ in range(4)]},
    "1 GB of numpy": lambda: {"data": [np.zeros(1 << 26, np.float32) for _ in range(4)]},
    "10 GB of numpy, in a dataset": lambda: {"dataset": SimpleNamespace(images=_mapped(10), read=0)},
    "tensors with graphs, and cycles": _graphs,
    "attributes that raise, and proxies": _hostile,
    "attributes that load or compute": lambda: {"lazy": [_Lazy() for _ in range(1000)]},
    "a replay buffer of 4,000 steps": lambda: {"replay": deque(((torch.zeros(4), n) for n in range(4000)), 4000)},
}  # fmt: skip


_FIRST_WALK_S = 0.2


def measure(make: Callable[[], dict[str, Any]]) -> dict[str, float]:
    """The first walk, the best of three comparisons with one change, what is stored, and what a comparison has allocated."""
    names = make() | {"step": 0}
    state = ScriptState([DictNamespace(names, "main")], frameworks=[TorchFramework()])
    began = SYSTEM.monotonic()
    state.baseline()
    first_s = SYSTEM.monotonic() - began
    spent = []
    for step in range(3):
        names["step"] = step + 1
        began = SYSTEM.monotonic()
        stored = len(state.changed()["nodes"])
        spent.append(SYSTEM.monotonic() - began)
    tracemalloc.start()  # it slows everything down, so the times are taken before
    state.changed()
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "first_walk_s": first_s,
        "of_the_bound": first_s / _FIRST_WALK_S,
        "comparison_s": min(spent),
        "of_the_first_walk": min(spent) / first_s,
        "stored": stored,
        "allocated_mb": most_bytes / 1e6,
    }


def main() -> None:
    """Print a table, and the same as JSON."""
    rows = {}
    for name, make in SCRIPTS.items():
        rows[name] = row = measure(make)
        walk, comparison = row["first_walk_s"] * 1e3, row["comparison_s"] * 1e3
        shares = f"{row['of_the_bound']:4.0%} of the bound", f"{row['of_the_first_walk']:4.0%} of the walk"
        print(
            f"{name:34} first walk {walk:7.1f} ms ({shares[0]})   comparison {comparison:7.1f} ms ({shares[1]})",
            end="",
        )
        print(f"   {row['allocated_mb']:6.1f} MB")
    print(json.dumps(rows))
    assert not _Hostile.asked, "something that computes was asked"


if __name__ == "__main__":
    main()
