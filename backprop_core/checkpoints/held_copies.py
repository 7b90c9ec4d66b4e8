"""Which arrays need not be copied again, because memory still holds an earlier copy that shows no difference.

Two gigabytes that are frozen would be copied for each survivor otherwise. An array is looked at where its framework's count
of changes and its place are as they were: words at places that are drawn anew each time are compared with the copy. That is
no proof, because much is written past the count. So whoever seals a copy also reads on: piece by piece, round and round,
every held array is compared with its original, and one that has changed without a sign is never held again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from backprop_core.quick_dataclass import dataclass

from .arrays import Dense
from .memory import can_read_memory, read_memory, view_at

LEAST_BYTES: Final = 256 << 10
"""Smaller arrays are copied: that costs less than a look."""
_WORDS: Final = 64
_READ_ON_BYTES: Final = 8 << 20


@dataclass(slots=True)
class HeldCopy:
    """One copy, and what its original was then.

    Attributes:
        number: tells this copy from every other one.
        arena, start: where it lies.
        dense: the original's facts; its memory is not kept alive.
        read_step: at this step, or later, every byte was the original's.
        reading_since, read_bytes: how far a new reading has come, and when it began.
    """

    number: int
    arena: memoryview
    start: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]
    address: int
    version: int | None
    read_step: int
    reading_since: int = 0
    read_bytes: int = 0

    def place(self) -> memoryview:
        """The copy's bytes."""
        return self.arena[self.start : self.start + self.nbytes]


class HeldCopies:
    """The copies of large arrays in one slot of memory.

    Attributes:
        doubts: arrays, by object and name, that differed from their copy when they were read; slots of one state share it.
            With the address and count of changes that showed none; None for those of which that was wrong: they are
            never held again.
    """

    def __init__(self) -> None:
        self.doubts: dict[tuple[str, str], tuple[int, int | None] | None] = {}
        self._copies: dict[str, dict[str, HeldCopy]] = {}
        self._made = 0
        self._turn = 0
        self._chance = random.Random()

    def forget(self, name: str) -> None:
        """The memory of object `name` is given back."""
        self._copies.pop(name, None)

    def unchanged(
        self,
        name: str,
        arrays: Mapping[str, Dense],
        starts: Mapping[str, int],
        arenas: Mapping[str, memoryview],
    ) -> dict[str, int]:
        """Those arrays of an object that show no difference to the copy in their place, and that copy's number.

        Args:
            starts, arenas: by array, the place that it would be copied to.
        """
        held = self._copies.get(name)
        if not held or not can_read_memory():
            return {}
        return {
            key: copy.number
            for key, copy in held.items()
            if (dense := arrays.get(key)) is not None
            and (name, key) not in self.doubts
            and copy.start == starts[key]
            and copy.arena is arenas[key]
            and self._looks_the_same(copy, dense)
        }

    def _looks_the_same(self, copy: HeldCopy, dense: Dense) -> bool:
        if (copy.address, copy.version, copy.nbytes) != (dense.address, dense.version, dense.nbytes):
            return False
        if (copy.dtype, copy.shape) != (dense.dtype, dense.shape):
            return False
        nbytes = dense.nbytes & ~7
        stride = max(1, (nbytes >> 3) // _WORDS)
        begin = self._chance.randrange(stride)
        words, kept = view_at(dense.address, nbytes).cast("Q"), copy.place()[:nbytes].cast("Q")
        return words[begin::stride].tobytes() == kept[begin::stride].tobytes()

    def begin(
        self,
        name: str,
        untouched: frozenset[str],
        starts: Mapping[str, int],
        arenas: Mapping[str, memoryview],
    ) -> None:
        """The arrays of an object are about to be copied, all but `untouched`, whose memory holds what it held."""
        self._copies[name] = {
            key: copy
            for key, copy in self._copies.get(name, {}).items()
            if key in untouched and copy.start == starts[key] and copy.arena is arenas[key]
        }

    def copied(
        self,
        name: str,
        arrays: Mapping[str, Dense],
        starts: Mapping[str, int],
        arenas: Mapping[str, memoryview],
        step: int,
    ) -> None:
        """These arrays of an object have been copied, at `step`."""
        held = self._copies[name]
        for key, dense in arrays.items():
            if self._may_hold(name, key, dense):
                self._made += 1
                facts = dense.nbytes, dense.dtype, dense.shape, dense.address, dense.version
                held[key] = HeldCopy(self._made, arenas[key], starts[key], *facts, read_step=step)

    def _may_hold(self, name: str, key: str, dense: Dense) -> bool:
        if dense.nbytes < LEAST_BYTES or not dense.address or dense.version is None:
            return False
        if (name, key) not in self.doubts:
            return True
        if self.doubts[name, key] in (None, (dense.address, dense.version)):
            self.doubts[name, key] = None  # it has changed, and nothing shows it
            return False
        del self.doubts[name, key]  # it changed behind the boundary, as it may
        return True

    def read_since(self, kept: Mapping[str, Mapping[str, int]]) -> int | None:
        """The step since which every byte of the copies `kept`, by object, has been read once; None where there are none."""
        steps = [
            self._copies[name][key].read_step
            for name, keys in kept.items()
            for key in keys
            if key in self._copies.get(name, {})
        ]
        return min(steps, default=None)

    def read_on(self, kept: Mapping[str, Mapping[str, int]], step: int) -> bool:
        """Compare some more of the copies `kept` with their originals; False if one differs, which is not held any more.

        Called behind a boundary of `step`, by the thread that seals: what has changed since the boundary differs, too.
        """
        copies = [
            (name, key, copy)
            for name, keys in kept.items()
            for key in keys
            if (copy := self._copies.get(name, {}).get(key)) is not None
        ]
        left = _READ_ON_BYTES
        for _ in range(len(copies)):
            self._turn %= len(copies)
            name, key, copy = copies[self._turn]
            nbytes = min(left, copy.nbytes - copy.read_bytes)
            if not copy.read_bytes:
                copy.reading_since = step
            if not _is_as_original(copy, copy.read_bytes, nbytes):
                self._copies[name].pop(key, None)
                self.doubts[name, key] = copy.address, copy.version
                return False
            left -= nbytes
            copy.read_bytes += nbytes
            if copy.read_bytes == copy.nbytes:
                copy.read_bytes, copy.read_step = 0, max(copy.read_step, copy.reading_since)
                self._turn += 1
            if not left:
                break
        return True


def _is_as_original(copy: HeldCopy, begin: int, nbytes: int) -> bool:
    import xxhash

    at = copy.start + begin
    with suppress(OSError):  # the original is gone
        for piece in read_memory(copy.address + begin, nbytes):
            mine = copy.arena[at : at + len(piece)]
            if xxhash.xxh3_128_digest(piece) != xxhash.xxh3_128_digest(mine):
                return False
            at += len(piece)
        return True
    return False
