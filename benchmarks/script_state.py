"""What finding and comparing a script's state costs: the first walk, a comparison, and what is stored.

    python -m benchmarks.script_state

Goal (DESIGN section 13): the first walk at most 0.2 s, whatever the script holds.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
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


SCRIPTS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "an ordinary script": lambda: {"model": _layers(12), "curve": [0.0] * 1000, "rng": np.random.default_rng(0)},
    "a model of 1,000 modules": lambda: {"model": _layers(250)},
    "a list of a million names": lambda: {"names": [f"image-{n}.png" for n in range(1_000_000)]},
    "a million small lists": lambda: {"tokens": [[n, n + 1] for n in range(1_000_000)]},
    "a dictionary of 100,000 numbers": lambda: {"seen": {n: n / 3 for n in range(100_000)}},
    "1 GB of tensors": lambda: {"data": [torch.zeros(1 << 26) for _ in range(4)]},
    "1 GB of numpy": lambda: {"data": [np.zeros(1 << 26, np.float32) for _ in range(4)]},
    "a replay buffer of 4,000 steps": lambda: {"replay": deque(((torch.zeros(4), n) for n in range(4000)), 4000)},
}  # fmt: skip


def measure(make: Callable[[], dict[str, Any]]) -> dict[str, float]:
    """Seconds of the first walk and of the best of three comparisons with one change, and how many nodes are stored."""
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
    return {"first_walk_s": first_s, "comparison_s": min(spent), "stored": stored}


def main() -> None:
    """Print a table, and the same as JSON."""
    rows = {}
    for name, make in SCRIPTS.items():
        rows[name] = row = measure(make)
        print(
            f"{name:34} first walk {row['first_walk_s'] * 1e3:8.1f} ms   comparison {row['comparison_s'] * 1e3:8.1f} ms"
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
