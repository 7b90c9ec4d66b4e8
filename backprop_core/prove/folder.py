"""The folder that a proof works in: locked while it lives, so that a later proof can remove one that was left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX, _LOCK = "backprop-prove-", "lock"


class ProofFolder:
    """A temporary folder of one proof.

    Attributes:
        path: it. No symbolic links in it: a script that asks where it is would be told another path than the one it was
            given.
        lock: a file descriptor. Whoever inherits it keeps the folder from being taken for one that was left behind.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        # Nobody else sees the lock before it is held.
        fresh = self.path / f"{_LOCK}.new"
        self.lock = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.rename(self.path / _LOCK)

    def remove(self) -> bool:
        """Leave nothing behind; False where something could not be removed."""
        removed = _remove(self.path)
        with suppress(OSError):
            os.close(self.lock)
        return removed


def remove_left_behind() -> list[Path]:
    """Remove the folders of proofs that were killed; those that are gone now."""
    return [path for path in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")) if _is_left(path)]


def _is_left(path: Path) -> bool:
    """Whether it was a folder of ours that nobody works in, and is removed."""
    try:
        if path.is_symlink() or path.stat().st_uid != os.getuid():
            return False
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _remove(path)
    except OSError:  # it is being used, or it cannot be told
        return False
    finally:
        os.close(descriptor)


def _remove(path: Path) -> bool:
    for _ in range(2):  # a process that is about to end may have written into it meanwhile
        shutil.rmtree(path, ignore_errors=True)
    return not path.exists()
