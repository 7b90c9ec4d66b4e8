"""Locks that the kernel frees when their holder dies, however it dies.

`flock` belongs to the open file: a forked DataLoader worker would inherit it and keep the lock after its
parent is gone. So every process that forks closes the copies in the child; the lock itself stays with the
parent.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

from backprop_core.clock import Clock
from backprop_core.errors import LockTimeoutError
from backprop_core.own_descriptor import OwnDescriptor
from backprop_core.runs.atomic import write_error

_POLL_S = 0.01


class FileLock:
    """An exclusive lock on `path`, which is created if need be. Not reentrant, also not within one
    process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: OwnDescriptor | None = None
        _live.add(self)

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock now; False if another holds it.

        Raises:
            StoreError: the file cannot be made or locked.
        """
        if self._descriptor is not None:
            return False
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise write_error(self.path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = _same_file(descriptor, self.path)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise write_error(self.path, error) from error
        if not same:  # the file was removed while we waited for it: that lock guards nothing
            os.close(descriptor)
            return False
        self._descriptor = OwnDescriptor(descriptor)
        return True

    def wait(self, clock: Clock, timeout_s: float) -> None:
        """Take the lock within `timeout_s` seconds.

        Raises:
            LockTimeoutError: another process keeps it that long, perhaps because it is stopped.
        """
        end = clock.monotonic() + timeout_s
        while not self.acquire():
            if clock.monotonic() >= end:
                raise LockTimeoutError(
                    f"{self.path} has been locked by {_holder_text(self.path)} for {timeout_s:g} s.",
                    "If a backprop process is stopped (Ctrl-Z), continue or end it.",
                    path=self.path,
                )
            clock.sleep(_POLL_S)

    def release(self) -> None:
        """Give the lock back. Harmless when it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None and descriptor.is_ours:
            with contextlib.suppress(OSError):  # explicit, in case something forked without our hook
                fcntl.flock(descriptor.fd, fcntl.LOCK_UN)
            descriptor.close()

    def write_text(self, text: str) -> None:
        """Put a note for others into the locked file. A full disk costs the note, not the lock."""
        if self._descriptor is not None and self._descriptor.is_ours:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor.fd, 0)
                os.pwrite(self._descriptor.fd, text.encode(), 0)

    def forget(self) -> None:
        """Close the file without unlocking: what a forked child does with its parent's lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            descriptor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock on `path` now; False if the file is missing or cannot be looked
    at.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _holder_text(path: Path) -> str:
    """Who holds the lock on `path`, as far as the kernel tells."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        inode = str(path.stat().st_ino)
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode:
                pid = int(words[4])
                state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
                return f"process {pid}" + (" (stopped)" if state in (b"T", b"t") else "")
    return "another process"


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


_live: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_inherited() -> None:
    for lock in list(_live):
        lock.forget()


os.register_at_fork(after_in_child=_forget_inherited)
