"""States, facts and comparisons that the tests of the checkpoint store share."""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backprop_core.checkpoints import CheckpointFacts, CheckpointStore, NumpyTranslator, Snapshot, capture
from backprop_core.outcome import SaveReason
from backprop_core.testing.clock import FakeClock

NUMPY = (NumpyTranslator(),)
FACTS = CheckpointFacts(
    run_id="r1",
    attempt=1,
    step=7,
    epoch=1,
    batch=3,
    reason=SaveReason.PERIODIC,
    environment={"numpy": np.__version__},
)


def facts(step: int, **changes: Any) -> CheckpointFacts:
    """The facts of a save at `step`."""
    return replace(FACTS, step=step, **changes)


def small_states(seed: int = 0) -> dict[str, object]:
    """Two tracked objects with a bit of everything; 3 to 4 kB."""
    draw = np.random.default_rng(seed)
    weight = draw.standard_normal((16, 8)).astype(np.float32)
    return {
        "model": {"layer.weight": weight, "head.weight": weight, "layer.bias": draw.standard_normal(8)},
        "optimizer": {
            "state": {0: {"exp_avg": draw.standard_normal((16, 8)), "step": np.array(seed, np.int64)}},
            "param_groups": [{"lr": 0.1 + seed, "betas": (0.9, 0.999), "params": [0, 1], "foreach": None}],
        },
        "rng": ("MT19937", draw.integers(0, 1 << 32, 624, np.uint32), 624, 0, -0.0),
    }


def small_snapshot(seed: int = 0) -> Snapshot:
    """`small_states` taken apart."""
    return capture(small_states(seed), NUMPY)


def store_at(path: Path, **options: Any) -> CheckpointStore:
    """A store with a clock that stands still."""
    return CheckpointStore(path, clock=FakeClock(), **options)


def assert_same(left: object, right: object, where: str = "state") -> None:
    """Fail unless both are of the same types and equal to the last bit, NaN payloads and signs of zero
    included.
    """
    assert type(left) is type(right), f"{where}: {type(left)} and {type(right)}"
    if isinstance(left, np.ndarray):
        assert isinstance(right, np.ndarray)
        assert (left.dtype, left.shape) == (right.dtype, right.shape), where
        assert left.tobytes() == right.tobytes(), where
    elif isinstance(left, np.generic):
        assert isinstance(right, np.generic)
        assert left.dtype == right.dtype, where
        assert left.tobytes() == right.tobytes(), where
    elif isinstance(left, float):
        assert struct.pack("<d", left) == struct.pack("<d", right), where
    elif isinstance(left, complex):
        assert isinstance(right, complex)
        assert_same((left.real, left.imag), (right.real, right.imag), where)
    elif isinstance(left, Mapping):
        assert isinstance(right, Mapping)
        assert getattr(left, "default_factory", None) is getattr(right, "default_factory", None), where
        assert getattr(left, "_metadata", None) == getattr(right, "_metadata", None), where
        assert len(left) == len(right), where
        for (key, value), (other_key, other) in zip(left.items(), right.items(), strict=True):
            assert_same(key, other_key, f"{where} key {key!r}")
            assert_same(value, other, f"{where}[{key!r}]")
    elif isinstance(left, (list, tuple, deque)):
        assert isinstance(right, (list, tuple, deque))
        assert getattr(left, "maxlen", None) == getattr(right, "maxlen", None), where
        assert len(left) == len(right), where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif isinstance(left, (set, frozenset)):
        assert isinstance(right, (set, frozenset))
        assert _canonical(left) == _canonical(right), where
    else:
        assert left == right, where


def _canonical(members: set[Any] | frozenset[Any]) -> list[str]:
    """Members as text that tells -0.0 from 0.0 and every NaN from every other."""
    return sorted(
        struct.pack("<d", m).hex() if isinstance(m, float) and (math.isnan(m) or m == 0) else repr(m)
        for m in members
    )
