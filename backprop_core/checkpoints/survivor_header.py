"""The first bytes of memory that survives a process: how far training had come, and which halves are whole.

There is a record for each of the two halves: where in the memory the half's description lies, the description's digest, and
the record's own. It is written when all else is there, and wiped before anything of the half changes; so one that was being
written does not fit its digest, and counts as none. This file is all that a governor needs of it while nobody dies.
"""

from __future__ import annotations

import os
import struct
from typing import Final, NamedTuple

HALVES: Final = 2
HEADER_BYTES: Final = 4096
READ_AT: Final = "unchanged_read_at_step"
"""A fact of a checkpoint that holds earlier copies: each byte of them has been compared at this step, or later."""
_MAGIC: Final = b"backprop survive"
_STEP: Final = struct.Struct("<QQ")
_STEP_AT: Final = len(_MAGIC)
_RECORD: Final = struct.Struct("<QQQ16s")
_RECORD_BYTES: Final = _RECORD.size + 16
_RECORDS_AT: Final = 64
_USED_BYTES: Final = _RECORDS_AT + HALVES * _RECORD_BYTES


class Record(NamedTuple):
    """Where a half that is whole is described.

    Attributes:
        sequence: higher in the one that was sealed later.
        offset, nbytes: of its description, in the memory.
        digest: xxh3-128 of the description.
    """

    sequence: int
    offset: int
    nbytes: int
    digest: bytes


def digest_of(data: bytes | memoryview) -> bytes:
    """The xxh3-128 digest."""
    import xxhash

    return xxhash.xxh3_128_digest(data)


def begin(header: memoryview) -> None:
    """Make a fresh header: no step, and no half that is whole."""
    header[:] = bytes(len(header))
    header[: len(_MAGIC)] = _MAGIC


def write_step(header: memoryview, step: int, stride: int) -> None:
    """Note the step that training has come to; one boundary in `stride` is noted."""
    _STEP.pack_into(header, _STEP_AT, step, stride)


def wipe(header: memoryview, half: int) -> None:
    """A half is about to change: nobody may take it until it is sealed again."""
    start = _RECORDS_AT + half * _RECORD_BYTES
    header[start : start + _RECORD_BYTES] = bytes(_RECORD_BYTES)


def seal(header: memoryview, half: int, record: Record) -> None:
    """The half is whole."""
    body = _RECORD.pack(*record)
    start = _RECORDS_AT + half * _RECORD_BYTES
    header[start : start + _RECORD_BYTES] = body + digest_of(body)


def came_to(fd: int) -> tuple[int, bool] | None:
    """The step that training had come to at its last look, and whether it looked at each; None where none was noted.

    Raises:
        OSError: the memory cannot be read.
    """
    head = os.pread(fd, _RECORDS_AT, 0)
    if len(head) < _RECORDS_AT or not head.startswith(_MAGIC):
        return None
    step, stride = _STEP.unpack_from(head, _STEP_AT)
    return (step, stride == 1) if stride else None


def anything_left(fd: int) -> bool:
    """Whether a half may be whole; cheap, and only a first look.

    Raises:
        OSError: the memory cannot be read.
    """
    return any(os.pread(fd, _USED_BYTES, 0)[_RECORDS_AT:])


def records(fd: int) -> list[Record]:
    """Those of the halves that are whole, the newest first.

    Raises:
        OSError: the memory cannot be read.
    """
    head, found = os.pread(fd, _USED_BYTES, 0), []
    for start in range(_RECORDS_AT, len(head) if head.startswith(_MAGIC) else 0, _RECORD_BYTES):
        body, own = head[start : start + _RECORD.size], head[start + _RECORD.size : start + _RECORD_BYTES]
        if len(body) == _RECORD.size and any(body) and digest_of(body) == own:
            found.append(Record(*_RECORD.unpack(body)))
    return sorted(found, reverse=True)
