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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from .arrays import allocate_ram

PIECE_BYTES: Final = 4 << 20
"""Hashed and then written while still in the processor's cache."""
_SMALL: Final = 32 << 10
_GATHERED: Final = 512 << 10
_BINARY: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# Never follow a link out of the folder; never hang on a pipe that somebody put there.
_CAREFUL: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the manifest says of a file: its size in bytes and its xxh3-128 digest in hexadecimal."""

    nbytes: int
    digest: str


def digest_of(data: bytes | memoryview) -> str:
    """The xxh3-128 digest in hexadecimal."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(data)


class Flusher:
    """Flushes written files to the disk in a few threads: the disk then commits them together, and the next
    is written meanwhile. `wait` is the point after which all of them are durable. With no `threads` each file is
    flushed as it comes.

    A failed fsync or close is final: the kernel counts pages whose fsync failed as clean, so that a second
    fsync would succeed falsely. The caller throws everything away.
    """

    def __init__(self, threads: int = 4) -> None:
        self._most = threads
        self._waiting: SimpleQueue[int | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def take(self, fd: int) -> None:
        """Flush and close `fd`, which is the flusher's from now on."""
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._run, name="backprop-flush", daemon=True)
            try:
                thread.start()
                self._threads.append(thread)
            except RuntimeError:  # no more threads to be had, or the interpreter is shutting down
                self._most = len(self._threads)
        if self._threads:
            self._waiting.put(fd)
        else:
            self._flush(fd)

    def wait(self) -> None:
        """Return once every file is on the disk.

        Raises:
            OSError: one of them is not.
        """
        for _ in self._threads:
            self._waiting.put(None)
        while self._threads:
            self._threads.pop().join()
        if self._errors:
            raise self._errors[0]

    def _run(self) -> None:
        while (fd := self._waiting.get()) is not None:
            self._flush(fd)

    def _flush(self, fd: int) -> None:
        try:
            try:
                _sync(fd)
            finally:
                os.close(fd)  # network file systems report a full disk here
        except BaseException as error:
            self._errors.append(error)


def write_file(path: Path, chunks: Iterable[bytes | memoryview], flusher: Flusher) -> FileFacts:
    """Write a new file and return its size and digest; `flusher` brings it to the disk.

    Raises:
        OSError: anything that went wrong; FileExistsError if the file is there already.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    nbytes = 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)  # the umask decides
    try:
        for piece in pieces(chunks):
            digest.update(piece)
            nbytes += len(piece)
            _write_all(fd, piece)
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


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        if written == 0:
            raise OSError(errno.EIO, "a write wrote nothing")
        view = view[written:]


def _sync(fd: int) -> None:
    os.fsync(fd)
    if sys.platform == "darwin":  # there fsync leaves the bytes in the disk's own cache
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk. File systems that cannot flush folders say EINVAL; they do it by
    themselves.
    """
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _BINARY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def read_file(path: Path, *, limit_bytes: int | None = None, expected: FileFacts | None = None) -> memoryview:
    """The whole file in fresh writable memory, verified against `expected` before anybody sees it.

    Raises:
        ValueError: not a regular file, too large, or not what was expected; a sentence without the path.
        OSError: it cannot be read.
    """
    limit = memory_bytes() if limit_bytes is None else limit_bytes
    with _opened(path, expected) as (fd, nbytes):
        if nbytes > limit:
            raise ValueError(f"it has {nbytes} bytes, more than the {limit} that can be taken in here")
        return _read_hashed(fd, nbytes, expected, keep=True)


def verify_file(path: Path, expected: FileFacts) -> None:
    """Read a file through a small buffer and compare it with what was recorded. Raises as `read_file` does."""
    with _opened(path, expected) as (fd, nbytes):
        _read_hashed(fd, nbytes, expected, keep=False)


@contextlib.contextmanager
def _opened(path: Path, expected: FileFacts | None) -> Iterator[tuple[int, int]]:
    """A descriptor for reading a regular file, and its size in bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | _BINARY | _CAREFUL)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("it is a link, which may lead anywhere") from None
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
        raise ValueError(
            "its digest is not the one that was recorded: the bytes have changed since they were written"
        )
    return data
