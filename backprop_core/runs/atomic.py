"""Replacing a small file so that every reader sees the old content or the new, also after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from backprop_core.errors import StoreError

_TEMP_MARK = ".backprop-tmp-"


class NotRegularError(OSError):
    """A pipe, a device or a folder where a file should be, or a file that is far too large."""


def replace_file(path: Path, content: bytes, *, mode: int = 0o644, lasting: bool = True) -> None:
    """Write `content` to `path` by a temporary file beside it, fsync and rename; `mode` is cut by the umask.

    After a power cut there is the old content or the new; the new for sure only where it is `lasting`.

    Raises:
        StoreError: the disk is full, read-only, gone or forbidden. The old content is untouched.
    """
    temporary = path.with_name(f"{_TEMP_MARK}{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        _write_new(temporary, content, mode)
        temporary.replace(path)
        if lasting:
            fsync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise write_error(path, error) from error


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable. Some file systems cannot: that is not an error of ours."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporaries(folder: Path) -> None:
    """Remove what killed writers left in `folder`. The caller holds whatever lock guards it."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f"{_TEMP_MARK}*"):
            with contextlib.suppress(OSError):
                left.unlink()


def read_regular(path: Path, limit_bytes: int) -> bytes:
    """The content of a regular file of at most `limit_bytes`; never hangs on a pipe or device of that name.

    Raises:
        FileNotFoundError, OSError: as `open` does.
        NotRegularError: it is not a regular file, or too large.
    """
    with open_regular(path) as file:
        nbytes = os.fstat(file.fileno()).st_size
        if nbytes > limit_bytes:
            raise NotRegularError(f"it is larger than {limit_bytes} bytes")
        return file.read(
            nbytes
        )  # not the limit: all of that would be allocated, which `ulimit -v` may forbid


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file, open to be read; never waits for the writer of a pipe.

    Raises:
        FileNotFoundError, OSError: as `open` does.
        NotRegularError: it is something else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise NotRegularError("it is not a regular file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegularError("it is not a regular file")
    return os.fdopen(descriptor, "rb")


def keep_copy(path: Path, copy: Path) -> None:
    """Let `copy` be what `path` is now, at the cost of a link. Where the file system has none, there is no copy."""
    temporary = copy.with_name(f"{_TEMP_MARK}{copy.name}-{os.getpid()}-{os.urandom(4).hex()}")
    with contextlib.suppress(OSError):
        os.link(path, temporary)
        temporary.replace(copy)
        temporary.unlink(missing_ok=True)  # it stays where both were links to one file already


def write_error(path: Path, error: OSError) -> StoreError:
    """The sentence for a file that could not be written."""
    return StoreError(
        f"Cannot write {path}: {error.strerror or error}.",
        "Check that the folder exists, is yours and has space left, or point BACKPROP_HOME elsewhere.",
        path=path,
    )


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
