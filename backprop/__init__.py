"""Give a training run a time budget: on time, nothing wasted, nothing lost, bit-exact on resume.

with backprop.timebox("10m", model=model, optimizer=optimizer) as box:
    for epoch in box.epochs(10):
        for x, y in box.batches(loader):
            ...
"""

from importlib import import_module
from typing import TYPE_CHECKING

from backprop_core import __version__

if TYPE_CHECKING:
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
    from backprop_core.prove.ask import ProofFailedError, prove
    from backprop_core.prove.verdict import Proof

__all__ = [
    "BackpropError",
    "BoxError",
    "BudgetError",
    "CheckpointDamagedError",
    "CheckpointError",
    "CheckpointWriteError",
    "ConfigError",
    "Outcome",
    "Proof",
    "ProofFailedError",
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
    "prove",
    "timebox",
]

_HOME = {
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "backprop_core.errors"),
    "Outcome": "backprop_core.outcome",
    "Proof": "backprop_core.prove.verdict",
    "ProofFailedError": "backprop_core.prove.ask",
    "prove": "backprop_core.prove.ask",
    "SaveReason": "backprop_core.outcome",
    "TimeBox": "backprop_core.loop.timebox",
    "timebox": "backprop_core.loop.timebox",
}


def __getattr__(name: str) -> object:
    """Load a name when it is first used: an import that nobody uses, in a worker or a notebook, costs next to nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def load_ipython_extension(shell: object) -> None:
    """`%load_ext backprop` in a notebook: the magic `%%timebox`; see docs/notebooks.md."""
    from backprop_notebook.extension import load

    load(shell)


def __dir__() -> list[str]:
    return sorted(__all__)
