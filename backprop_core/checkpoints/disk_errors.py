"""What an error number of a failed save means to a person, and what can be done about it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from backprop_core.errors import CheckpointWriteError

from .manifest import address_of

_MEANING: Final[Mapping[int, tuple[str, str]]] = {
    errno.ENOSPC: ("the disk is full", "Free some space; the next save tries again."),
    errno.EDQUOT: ("your disk quota is used up", "Free some space; the next save tries again."),
    errno.EIO: ("the disk reported an input/output error", "The disk or its connection may be failing."),
    errno.EROFS: (
        "the file system is read-only",
        "It may have been remounted after an error; see the system log.",
    ),
    errno.ENOENT: (
        "the folder has vanished",
        "Something removed it during the save; the next save tries again.",
    ),
    errno.ESTALE: ("the network file system lost the folder", "The next save tries again."),
    errno.EACCES: ("permission was denied", "Check who owns the folder."),
    errno.EPERM: ("permission was denied", "Check who owns the folder."),
    errno.ENOTDIR: ("a part of its path is not a folder", "Choose another checkpoint_dir."),
    errno.EMFILE: ("too many files are open in this process", "Raise the limit with ulimit -n."),
    errno.EFBIG: ("the file system does not support files that large", "Choose another checkpoint_dir."),
}


def write_error(directory: Path, step: int, error: OSError) -> CheckpointWriteError:
    """The error for a save of `step` into `directory` that failed with `error`."""
    problem, hint = _MEANING.get(error.errno or 0, (error.strerror or str(error) or type(error).__name__, ""))
    return CheckpointWriteError(
        f"The checkpoint of step {step} was not saved in {address_of(directory)}: {problem}.",
        hint,
        path=directory,
    )


def no_room(directory: Path, step: int, *, needed: int, free: int) -> CheckpointWriteError:
    """The error for a save that would not fit, found before a byte was written. Sizes in bytes."""
    return CheckpointWriteError(
        f"The checkpoint of step {step} was not saved in {address_of(directory)}: it needs {needed / 1e6:,.1f} MB, and"
        f" only {free / 1e6:,.1f} MB are free.",
        "Free some space; the next save tries again.",
        path=directory,
    )
