"""Memory that outlives the process which fills it, because another one holds it too.

An anonymous file of the kernel's (memfd_create(2)), never on a disk and in no folder: it is gone with the last process
that holds it.
"""

from __future__ import annotations

import bisect
import mmap
import os
from typing import Final

from backprop_core.own_descriptor import OwnDescriptor

from .arrays import touch
from .memory import address_of
from .survivor_header import HEADER_BYTES

_ALIGN: Final = 4096
_ALIGN_LARGE: Final = 2 << 20


class SharedMemory:
    """A header, and arenas that are taken from it and given back.

    Attributes:
        fd: the file, to be handed to whoever is to hold it too.
        header: the first bytes, writable.

    Raises:
        OSError: the system has no such memory.
    """

    def __init__(self) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("this system has no memfd_create")
        self._file = OwnDescriptor(os.memfd_create("backprop", os.MFD_CLOEXEC))
        try:
            os.ftruncate(self.fd, HEADER_BYTES)
            self.header = memoryview(mmap.mmap(self.fd, HEADER_BYTES))
        except BaseException:
            self._file.close()
            raise
        self._end = HEADER_BYTES
        self._starts: list[int] = []
        self._arenas: list[tuple[int, int]] = []

    @property
    def fd(self) -> int:
        return self._file.fd

    def allocate(self, nbytes: int) -> memoryview:
        """An arena of at least `nbytes`, its pages there and touched.

        Raises:
            MemoryError: the system does not have that much.
        """
        if nbytes == 0:
            return memoryview(bytearray())
        if (
            not self._file.is_ours
        ):  # to make a file of the script's longer, and to write into it, is the last thing to do
            raise MemoryError("The script has closed the shared memory's descriptor")
        align = _ALIGN_LARGE if nbytes >= _ALIGN_LARGE else _ALIGN
        offset = self._end + -self._end % align
        size = nbytes + -nbytes % _ALIGN
        try:
            os.ftruncate(self.fd, offset + size)
            self._end = offset + size
            # Before it is touched: where there is not enough, this is an error, and a touch would be the process's end.
            os.posix_fallocate(self.fd, offset, size)
            memory = mmap.mmap(self.fd, size, offset=offset)
        except (OSError, OverflowError, ValueError) as error:
            raise MemoryError(f"{nbytes} bytes of shared memory are not available") from error
        view = memoryview(memory)
        touch(view)
        place = bisect.bisect(self._starts, address_of(view))
        self._starts.insert(place, address_of(view))
        self._arenas.insert(place, (offset, size))
        return view

    def release(self, arena: memoryview) -> None:
        """Give the pages of an arena back to the system; nobody may use it any more."""
        if not len(arena):
            return
        place = self._starts.index(address_of(arena))
        del self._starts[place], self._arenas[place]
        memory = arena.obj
        if isinstance(memory, mmap.mmap) and hasattr(mmap, "MADV_REMOVE"):
            memory.madvise(mmap.MADV_REMOVE)

    def offset_of(self, address: int, nbytes: int) -> int | None:
        """Where in the file these bytes of the process lie; None where they are none of its arenas."""
        place = bisect.bisect(self._starts, address) - 1
        if place < 0:
            return None
        offset, size = self._arenas[place]
        inside = address - self._starts[place]
        return offset + inside if inside + nbytes <= size else None

    def close(self) -> None:
        """Let go of it. What is mapped stays until nobody looks at it any more."""
        self._file.close()
