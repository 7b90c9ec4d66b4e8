"""Copies of plain memory, by address."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from threading import Thread
from typing import NamedTuple

_LARGE_BYTES = 1 << 20
"""From here on other threads may run during a copy."""
_PIECE_BYTES = 4 << 20
_SHARED_BYTES = 32 << 20
"""From here on other processors take part."""
_HELPERS = 3
"""More of them wait for the memory, not for processors."""
_READ_AT_ONCE = 1 << 20


class Region(NamedTuple):
    """What is to be copied: two addresses of this process, and how many bytes."""

    target: int
    source: int
    nbytes: int


def address_of(memory: memoryview) -> int:
    """Where a writable view begins; 0 where it is empty."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory)) if len(memory) else 0


def view_at(address: int, nbytes: int, owner: object = None) -> memoryview:
    """The bytes at an address, for as long as their owner keeps them; the view keeps `owner`."""
    memory = (ctypes.c_char * nbytes).from_address(address)
    memory.owner = owner  # type: ignore[attr-defined]
    return memoryview(memory).cast("B")


def can_read_memory() -> bool:
    """Whether `read_memory` works here."""
    return sys.platform == "linux" and os.access("/proc/self/mem", os.R_OK)


def read_memory(address: int, nbytes: int) -> Iterator[memoryview]:
    """What lies at an address now, piece by piece, in a buffer that is used again.

    Through the kernel, because the memory's owner may let go of it meanwhile (torch's `resize_` does although somebody still
    holds the tensor): a plain read would end the process then, and asking torch for an array over it forbids `resize_`.

    Raises:
        OSError: it is not mapped any more, or this system does not read memory so.
    """
    buffer = memoryview(bytearray(min(nbytes, _READ_AT_ONCE)))
    memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        done = 0
        while done < nbytes:
            count = os.preadv(memory, [buffer[: nbytes - done]], address + done)
            if not count:
                raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
            yield buffer[:count]
            done += count
    finally:
        os.close(memory)


class _Buffer(ctypes.Structure):
    """`Py_buffer` of Python's stable ABI, as far as its beginning."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("rest", ctypes.c_byte * 128),
    )


def address_of_any(memory: memoryview) -> int:
    """Where a view of contiguous bytes begins, a read-only one too; 0 where it is empty."""
    if not len(memory):
        return 0
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(memory), ctypes.byref(buffer), 0)
    try:
        return int(buffer.buf or 0)
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


def copy_memory(regions: Iterable[tuple[int, int, int]]) -> None:
    """Copy every region, each with the fields of a `Region`; whoever owns the memory keeps it alive until then.

    Training stands still meanwhile, so its processors are free: large copies are shared with threads. They take pieces from
    one queue, so that a processor that is busy with something else holds nobody up longer than a piece.
    """
    small, large = _memmove(), []
    for target, source, nbytes in regions:
        if nbytes < _LARGE_BYTES:
            small(target, source, nbytes)
        else:
            large.append(Region(target, source, nbytes))
    helpers = min(_HELPERS, _processors() - 1) if sum(one.nbytes for one in large) >= _SHARED_BYTES else 0
    pieces = deque(piece for one in large for piece in _pieces(one))

    def work() -> None:
        while pieces:
            try:
                ctypes.memmove(*pieces.popleft())
            except IndexError:  # another thread took the last one
                return

    threads = [Thread(target=work, name="backprop-copy", daemon=True) for _ in range(helpers)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()


def _pieces(region: Region) -> Iterable[Region]:
    for start in range(0, region.nbytes, _PIECE_BYTES):
        nbytes = min(_PIECE_BYTES, region.nbytes - start)
        yield Region(region.target + start, region.source + start, nbytes)


def _processors() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _memmove() -> Callable[[int, int, int], object]:
    """memmove without giving the interpreter away: for a copy of microseconds another thread would keep it for 5 ms."""
    try:
        function = ctypes.PyDLL(None).memmove
    except (OSError, TypeError, AttributeError):  # Windows
        return ctypes.memmove
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), None
    return function
