"""Every error that backprop raises. A message says what happened, to which file or key, and what to do next."""

from __future__ import annotations

from pathlib import Path

_SHOWN = 80
"""Characters of a value that a message shows."""


def shown(value: object) -> str:
    """A value that a user gave, for a message: short whatever it is, and never an error of its own."""
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits, an object whose repr fails
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class BackpropError(Exception):
    """The base class of all errors that backprop raises.

    Args:
        what: what happened, and to what, in one sentence.
        hint: what the user can do next, in one sentence, or empty.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what} {hint}".rstrip())
        self.what = what
        self.hint = hint


class UsageError(BackpropError):
    """A request that cannot be fulfilled. The command line exits with status 2."""


class BudgetError(UsageError):
    """A budget or deadline that cannot be read, is not positive, or has already passed."""


class ConfigError(UsageError):
    """An unknown key or a value out of range; names the place it came from and what is allowed."""


class BoxError(UsageError):
    """A time box used in a way that cannot work, such as nested boxes."""


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
    """With `strict`: something changes during training that no checkpoint can hold. The message names it."""


class CheckpointError(BackpropError):
    """The base class of errors about one checkpoint."""

    def __init__(self, what: str, hint: str = "", *, path: Path | None = None) -> None:
        super().__init__(what, hint)
        self.path = path


class CheckpointDamagedError(CheckpointError):
    """A checkpoint does not match its manifest, or is hostile. Nothing in it was executed."""


class CheckpointWriteError(CheckpointError):
    """A save did not reach the disk. Older checkpoints are untouched."""


class UnsavableStateError(CheckpointError):
    """A state contains a value that cannot be stored without pickle. The message says where."""


class StateMismatchError(CheckpointError):
    """The saved state does not fit the objects to be restored. Nothing was restored."""
