"""Which of Lightning's two names is in use: `pytorch_lightning` or `lightning.pytorch`. Their classes are not the same."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

_NAMES = ("lightning.pytorch", "pytorch_lightning")


def callback_bases() -> tuple[type, ...]:
    """What our callback derives from: `Callback` of every name that is in use, else of the first that is installed.

    Raises:
        ImportError: Lightning is not installed.
    """
    names = [name for name in _NAMES if name in sys.modules] or [name for name in _NAMES if _installed(name)][
        :1
    ]
    if not names:
        raise ModuleNotFoundError("No module named 'lightning'", name="lightning")
    return tuple(import_module(f"{name}.callbacks.callback").Callback for name in names)


def at_home(kind: type) -> type:
    """`kind`, or one derived from it that is a `Callback` of every name that has come into use since.

    Trainers take no other: a script may import us first and Lightning after that.
    """
    missing = [base for base in callback_bases() if not issubclass(kind, base)]
    if not missing:
        return kind
    return type(
        kind.__name__, (kind, *missing), {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    )


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def package_of(trainer: Any) -> str:
    """The name that a Trainer, or a class derived from it, comes from."""
    for kind in type(trainer).__mro__:
        for name in _NAMES:
            if kind.__module__ == f"{name}.trainer.trainer":
                return name
    return _NAMES[1]


def early_exit(trainer: Any) -> Exception:
    """What makes `fit` return normally with nothing but the teardown hooks: the tuner's own way out of a fit."""
    error: Exception = import_module(f"{package_of(trainer)}.utilities.exceptions")._TunerExitException()
    return error


def migrated(trainer: Any, checkpoint: dict[str, Any], path: str) -> dict[str, Any]:
    """A checkpoint of an older Lightning as this one wants it."""
    module = import_module(f"{package_of(trainer)}.utilities.migration.utils")
    result: dict[str, Any] = module._pl_migrate_checkpoint(checkpoint, path)
    return result


def version_of(trainer: Any) -> str:
    """Lightning's version."""
    return str(import_module(package_of(trainer)).__version__)
