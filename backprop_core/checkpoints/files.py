"""Single files of a checkpoint: written once and flushed to the disk, read in one go, hashed on the way in
both directions.

Nothing here relies on mapped files, locks or rename, which network file systems get wrong.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Final, cast

from backprop_core.quick_dataclass import dataclass

from .arrays import allocate_ram

PIECE_BYTES: Final = 4 << 20
"""Hashed and then written while still in the processor's cache."""
_SMALL: Final = 32 << 10
_GATHERED: Final = 512 << 10
_MOST_TOGETHER: Final = 512
"""Pieces in one call: half of what Linux takes."""
_SYNC_FILE_RANGE_WRITE: Final = 2
_FLUSHING_AT_ONCE: Final = 8
_BINARY: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# Never follow a link out of the folder; never hang on a pipe that somebody put there.
_CAREFUL: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the manifest says of a file: its size in bytes and its xxh3-128 digest in hexadecimal.

    `linked` is known of a save alone: the file was not written, it is the one of an earlier checkpoint.
    """

    nbytes: int
    digest: str
    linked: bool = field(default=False, compare=False)


def digest_of(data: bytes | memoryview) -> str:
    """The xxh3-128 digest in hexadecimal."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(data)


def digest_of_all(chunks: Iterable[bytes | memoryview]) -> str:
    """The same of many pieces, one after the other."""
    import xxhash

    digest = xxhash.xxh3_128()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


class Flusher:
    """Brings written files to the disk together.

    Each file's writing-back is begun as soon as it is written, without waiting. `wait` then flushes all of them at the same
    time, each in a thread of its own, so that the disk flushes its cache once for many; the threads come so late because
    while there is work to do in Python, handing the interpreter over for every call costs more than it gives.

    A failed fsync or close is final: the kernel counts pages whose fsync failed as clean, so that a second
    fsync would succeed falsely. The caller throws everything away.
    """

    def __init__(self) -> None:
        self._written: deque[int] = deque()
        self._errors: list[OSError] = []

    def take(self, fd: int) -> None:
        """Begin to flush `fd`, of a file or a folder, which is the flusher's from now on."""
        self._written.append(fd)
        start_writing_back = _sync_file_range()
        if start_writing_back is not None:
            start_writing_back(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)  # an error shows at the fsync

    def wait(self) -> None:
        """Return once everything is on the disk and closed.

        Raises:
            OSError: something is not.
        """
        threads = []
        for _ in range(min(len(self._written), _FLUSHING_AT_ONCE) - 1):
            thread = threading.Thread(target=self._flush_all, name="backprop-flush", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no threads to be had, or the interpreter is shutting down
                break
            threads.append(thread)
        self._flush_all()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _flush_all(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._flush(self._written.pop())  # the last first: the others have had more time

    def _flush(self, fd: int) -> None:
        try:
            try:
                _sync(fd)
            finally:
                os.close(fd)  # network file systems report a full disk here
        except OSError as error:
            self._errors.append(error)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Linux's call to begin writing a file back, which Python has no name for; None elsewhere."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            function = ctypes.CDLL(None, use_errno=True).sync_file_range
            function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
            return cast("Callable[[int, int, int, int], int]", function)
    return None


def write_file(
    path: Path, chunks: Iterable[bytes | memoryview], flusher: Flusher, *, lasting: bool = False
) -> FileFacts:
    """Write a new file and return its size and digest; `flusher` brings it to the disk.

    Args:
        lasting: each chunk stays as it is when the next one is asked for, so that many are written in one call. On a busy
            machine each call may be the one after which another process has its turn.

    Raises:
        OSError: anything that went wrong; FileExistsError if the file already exists.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    nbytes = 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)  # the umask decides
    try:
        for group in _groups(chunks) if lasting else ([piece] for piece in pieces(chunks)):
            for piece in group:
                digest.update(piece)
                nbytes += len(piece)
            _write_group(fd, group)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
            os.close(fd)
        raise
    flusher.take(fd)
    return FileFacts(nbytes, digest.hexdigest())


def pieces(chunks: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """The same bytes, in pieces that are neither tiny (a call each) nor large (out of the cache).

    A piece is valid until the next one is asked for: small ones are gathered in memory that is used again.
    """
    gathered = memoryview(bytearray(_GATHERED))
    filled = 0
    for chunk in chunks:
        view = memoryview(chunk)
        small = len(view) <= _SMALL
        if filled and (not small or filled + len(view) > _GATHERED):
            yield gathered[:filled]
            filled = 0
        if small:
            gathered[filled : filled + len(view)] = view
            filled += len(view)
            continue
        for start in range(0, len(view), PIECE_BYTES):
            yield view[start : start + PIECE_BYTES]
    if filled:
        yield gathered[:filled]


def _groups(chunks: Iterable[bytes | memoryview]) -> Iterator[list[memoryview]]:
    """The same bytes, in lists of pieces that together still lie in the processor's cache."""
    group: list[memoryview] = []
    nbytes = 0
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            if group and (nbytes + len(piece) > PIECE_BYTES or len(group) == _MOST_TOGETHER):
                yield group
                group, nbytes = [], 0
            group.append(piece)
            nbytes += len(piece)
    if group:
        yield group


def _write_group(fd: int, group: list[memoryview]) -> None:
    """Write these pieces, in one call where the system takes them all."""
    if len(group) == 1 or not hasattr(os, "writev"):
        for piece in group:
            _write_all(fd, piece)
        return
    written = os.writev(fd, group)
    for piece in group:
        if written < len(piece):  # a disk that is nearly full, or a signal
            _write_all(fd, piece[written:])
        written = max(0, written - len(piece))


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        if written == 0:
            raise OSError(errno.EIO, "a write wrote nothing")
        view = view[written:]


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        # File systems that cannot flush a folder say EINVAL; they do it by themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise
    if sys.platform == "darwin":  # there fsync leaves the bytes in the disk's own cache
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)


def open_folder(path: Path) -> int:
    """A descriptor of a folder, to flush its entries."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _BINARY)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk.

    Raises:
        OSError: they are not on the disk.
    """
    if os.name == "nt":  # there folders cannot be opened, and are durable with their files
        return
    flusher = Flusher()
    flusher.take(open_folder(path))
    flusher.wait()


def read_file(path: Path, *, limit_bytes: int | None = None, expected: FileFacts | None = None) -> memoryview:
    """The whole file in fresh writable memory, verified against `expected` before anybody sees it.

    Raises:
        ValueError: not a regular file, too large, or not what was expected; a sentence without the path.
        OSError: it cannot be read.
    """
    limit = memory_bytes() if limit_bytes is None else limit_bytes
    with _opened(path, expected) as (fd, nbytes):
        if nbytes > limit:
            raise ValueError(f"it has {nbytes} bytes, more than the {limit} allowed here")
        return _read_hashed(fd, nbytes, expected, keep=True)


def verify_file(path: Path, expected: FileFacts) -> None:
    """Read a file through a small buffer and compare it with what was recorded. Raises as `read_file` does."""
    with _opened(path, expected) as (fd, nbytes):
        _check_sparse(fd, nbytes)
        _read_hashed(fd, nbytes, expected, keep=False)


def _check_sparse(fd: int, nbytes: int) -> None:
    """A file that is larger than all memory and hardly there was not written by a save, and would be read for hours."""
    on_disk = getattr(os.fstat(fd), "st_blocks", nbytes) * 512
    if nbytes > memory_bytes() and on_disk < nbytes / MOST_HOLES:
        raise ValueError(f"it claims to have {nbytes} bytes, of which only {on_disk} are on the disk")


@contextlib.contextmanager
def _opened(path: Path, expected: FileFacts | None) -> Iterator[tuple[int, int]]:
    """A descriptor for reading a regular file, and its size in bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | _BINARY | _CAREFUL)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("it is a symbolic link, which is not followed") from None
        raise
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is not a regular file")
        if expected is not None and facts.st_size != expected.nbytes:
            raise ValueError(f"it has {facts.st_size} bytes instead of {expected.nbytes}")
        yield fd, facts.st_size
    finally:
        os.close(fd)


MOST_HOLES = 8
"""A file system that compresses may need so many times less than a file's size."""


def memory_bytes() -> int:
    """All memory of the machine: no file larger than this can be restored, whatever it claims to hold."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 40


def _read_hashed(fd: int, nbytes: int, expected: FileFacts | None, *, keep: bool) -> memoryview:
    import xxhash

    digest = xxhash.xxh3_128()
    data = allocate_ram(nbytes if keep else min(nbytes, PIECE_BYTES), staging=False)
    done = 0
    with open(fd, "rb", buffering=0, closefd=False) as file:
        while done < nbytes:
            start = done if keep else 0
            piece = data[start : start + min(PIECE_BYTES, nbytes - done)]
            count = file.readinto(piece)
            if not count:
                raise ValueError(f"it ends after {done} of {nbytes} bytes")
            if expected is not None:
                digest.update(piece[:count])
            done += count
    if expected is not None and digest.hexdigest() != expected.digest:
        raise ValueError("its digest does not match: the bytes have changed since they were written")
    return data
