"""Files as memory: what is read or put together there need not fit into the machine's own."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from tempfile import TemporaryFile

from .files import FileFacts, verify_file

_CHUNK_BYTES = 64 << 20
_ALIGN = 64


def map_file(path: Path, expected: FileFacts) -> memoryview:
    """The bytes of a file, verified against `expected`; they come from the disk when they are looked at.

    Raises:
        ValueError: not a regular file, or not what was expected; a sentence without the path.
        OSError: it cannot be read.
    """
    verify_file(path, expected)
    with path.open("rb") as file:
        if not expected.nbytes:
            return memoryview(bytearray())
        return memoryview(mmap.mmap(file.fileno(), expected.nbytes, access=mmap.ACCESS_COPY))


class MemoryInFile:
    """Memory in a file without a name, which is gone with this process.

    Args:
        directory: on the file system that has the room for it.
    """

    def __init__(self, directory: Path) -> None:
        self._file = TemporaryFile(dir=directory)  # noqa: SIM115 - it lives as long as what is in it
        self._size = 0
        self._rest = memoryview(b"")

    def empty(self, nbytes: int) -> memoryview:
        """So many writable bytes.

        Raises:
            OSError: there is no room on the disk.
        """
        taken = nbytes + (-nbytes) % _ALIGN
        if taken > len(self._rest):
            self._rest = self._more(taken)
        found, self._rest = self._rest[:nbytes], self._rest[taken:]
        return found

    def _more(self, nbytes: int) -> memoryview:
        begin, size = self._size, nbytes + (-nbytes) % _CHUNK_BYTES
        os.posix_fallocate(
            self._file.fileno(), begin, size
        )  # else a full disk would be a signal, not an error
        self._size += size
        return memoryview(mmap.mmap(self._file.fileno(), size, offset=begin))
