"""Every error that backprop raises. A message says what happened, to which file or key, and what to do next."""

from __future__ import annotations

from pathlib import Path


class BackpropError(Exception):
    """The root of all errors of backprop.

    Args:
        what: what happened and to what, one sentence.
        hint: what the user can do next, one sentence, or empty.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what} {hint}".rstrip())
        self.what = what
        self.hint = hint


class UsageError(BackpropError):
    """The caller asked for something impossible: the command line answers with exit status 2."""


class BudgetError(UsageError):
    """A budget or deadline that cannot be read, is not positive, or has already passed."""


class ConfigError(UsageError):
    """An unknown key or a value out of range; names the place it came from and what is allowed."""


class BoxError(UsageError):
    """A time box used in a way that cannot work, such as one inside another."""


class UnsupportedVersionError(UsageError):
    """A framework's version lacks something that its adapter builds on; nothing was changed."""


class StoreError(BackpropError):
    """A folder or file of backprop's home cannot be read or written."""

    def __init__(self, what: str, hint: str = "", *, path: Path | None = None) -> None:
        super().__init__(what, hint)
        self.path = path


class LockTimeoutError(StoreError):
    """Another process keeps a lock, perhaps because it is stopped."""


class RuntimeFolderError(StoreError, UsageError):
    """The folder where processes of one host meet cannot be used."""


class RunNotFoundError(UsageError):
    """No run has this id (or unambiguous beginning of an id)."""


class RunBusyError(UsageError):
    """Another live process holds this run."""


class IllegalMoveError(BackpropError):
    """A status change that the table in `backprop_core.runs.status` does not allow."""


class UnkeptStateError(BackpropError):
    """With `strict`: the script changes something during training that no checkpoint can hold; the message names it."""


class CheckpointError(BackpropError):
    """The root of what can go wrong with one checkpoint."""

    def __init__(self, what: str, hint: str = "", *, path: Path | None = None) -> None:
        super().__init__(what, hint)
        self.path = path


class CheckpointDamagedError(CheckpointError):
    """A checkpoint that is not what its manifest says, or that is hostile. Nothing of it was executed."""


class CheckpointWriteError(CheckpointError):
    """A save that did not reach the disk. Older checkpoints are untouched."""


class UnsavableStateError(CheckpointError):
    """A state holds a value that cannot be stored without pickle; the message names where in the state it sits."""


class StateMismatchError(CheckpointError):
    """What was saved does not fit the objects that are to receive it. Nothing was restored."""
