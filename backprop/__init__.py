"""Give a training run a time budget: on time, nothing wasted, nothing lost, bit-exact on resume.

with backprop.timebox("10m", model=model, optimizer=optimizer) as box:
    for epoch in box.epochs(10):
        for x, y in box.batches(loader):
            ...
"""

from backprop_core import __version__
from backprop_core.errors import (
    BackpropError,
    BoxError,
    BudgetError,
    CheckpointDamagedError,
    CheckpointError,
    CheckpointWriteError,
    ConfigError,
    RunBusyError,
    RunNotFoundError,
    StateMismatchError,
    StoreError,
    UnkeptStateError,
    UnsavableStateError,
    UsageError,
)
from backprop_core.loop.timebox import TimeBox, timebox
from backprop_core.outcome import Outcome, SaveReason

__all__ = [
    "BackpropError",
    "BoxError",
    "BudgetError",
    "CheckpointDamagedError",
    "CheckpointError",
    "CheckpointWriteError",
    "ConfigError",
    "Outcome",
    "RunBusyError",
    "RunNotFoundError",
    "SaveReason",
    "StateMismatchError",
    "StoreError",
    "TimeBox",
    "UnkeptStateError",
    "UnsavableStateError",
    "UsageError",
    "__version__",
    "timebox",
]
