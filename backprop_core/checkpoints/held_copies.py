"""Which arrays need not be copied again, because memory still holds an earlier copy that shows no difference.

Two gigabytes that are frozen would be copied for each survivor otherwise. An array is looked at where its framework's count
of changes and its place are as they were: words at places that are drawn anew each time are compared with the copy. That is
no proof, because much is written past the count. So before a copy is sealed its arrays are compared with their originals:
the first times every byte, later piece by piece, round and round. One that has changed without a sign is never held again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from backprop_core.clock import Clock
from backprop_core.quick_dataclass import dataclass

from .arrays import Dense
from .memory import can_read_memory, read_memory, view_at

LEAST_BYTES: Final = 256 << 10
"""Smaller arrays are copied: that costs less than a look."""
_WORDS: Final = 64
READ_SHARE: Final = 0.01
"""Of the time of one processor: so much goes into comparing copies that are held with their originals."""
LEAST_READ_BYTES: Final = 8 << 20
WHOLE_READINGS: Final = 4
"""So often an array has to have been compared whole, each time at a later boundary, before a look at it is enough."""


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

    @property
    def sign(self) -> tuple[int, int | None]:
        """What has to be as it was for the copy to be taken again, beside a look at its bytes."""
        return self.address, self.version

    def place(self) -> memoryview:
        """The copy's bytes."""
        return self.arena[self.start : self.start + self.nbytes]


class Trust:
    """What is known of the arrays of one state, by object and name; all slots share it.

    Attributes:
        doubts: those that differed from their copy when they were read, with the address and count of changes that showed
            none; None for those of which that was wrong: they are never held again.
        readings: how often one with this address and count has been compared whole.
    """

    def __init__(self) -> None:
        self.doubts: dict[tuple[str, str], tuple[int, int | None] | None] = {}
        self.readings: dict[tuple[str, str], tuple[tuple[int, int | None], int]] = {}

    def readings_of(self, place: tuple[str, str], sign: tuple[int, int | None]) -> int:
        """How often this array has been compared whole since its address and count of changes are these."""
        seen, times = self.readings.get(place, (sign, 0))
        return times if seen == sign else 0

    def doubt(self, place: tuple[str, str], sign: tuple[int, int | None]) -> None:
        """It differs from its copy, and this is all that it shows."""
        self.doubts[place] = sign
        self.readings.pop(place, None)


class HeldCopies:
    """The copies of large arrays in one slot of memory."""

    def __init__(self, trust: Trust | None = None) -> None:
        self.trust = Trust() if trust is None else trust
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
            and (name, key) not in self.trust.doubts
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
        doubts = self.trust.doubts
        if (name, key) not in doubts:
            return True
        if doubts[name, key] in (None, (dense.address, dense.version)):
            doubts[name, key] = None  # it has changed, and nothing shows it
            return False
        del doubts[name, key]  # it changed behind the boundary, as it may
        return True

    def read_since(self, kept: Mapping[str, Mapping[str, int]]) -> int | None:
        """The step since which every byte of the copies `kept`, by object, has been read once; None where there are none."""
        return min((copy.read_step for _, copy in self._of(kept)), default=None)

    def _of(self, kept: Mapping[str, Mapping[str, int]]) -> list[tuple[tuple[str, str], HeldCopy]]:
        return [
            ((name, key), copy)
            for name, keys in kept.items()
            for key in keys
            if (copy := self._copies.get(name, {}).get(key)) is not None
        ]

    def compare(self, kept: Mapping[str, Mapping[str, int]], step: int, most_bytes: int) -> tuple[bool, int]:
        """Compare the copies `kept` with their originals: those not compared whole often enough, of the others some more.

        Called behind a boundary of `step`, by the thread that seals: what has changed since the boundary differs, too.

        Args:
            most_bytes: of the others, bytes in all.

        Returns:
            Whether none differs; one that does is not held any more. And how many bytes were read.
        """
        right, read_bytes, others = True, 0, []
        for place, copy in self._of(kept):
            times = self.trust.readings_of(place, copy.sign)
            if times >= WHOLE_READINGS:
                others.append((place, copy))
                continue
            read_bytes += copy.nbytes
            if self._is_right(place, copy, 0, copy.nbytes):
                copy.read_bytes, copy.read_step = 0, step
                self.trust.readings[place] = copy.sign, times + 1
            else:
                right = False  # and all the others that differ are found now, not one at each copy
        others_are, more_bytes = self._read_on(others, step, most_bytes)
        return right and others_are, read_bytes + more_bytes

    def _read_on(
        self, copies: Sequence[tuple[tuple[str, str], HeldCopy]], step: int, most_bytes: int
    ) -> tuple[bool, int]:
        left = most_bytes
        for _ in range(len(copies)):
            self._turn %= len(copies)
            place, copy = copies[self._turn]
            nbytes = min(left, copy.nbytes - copy.read_bytes)
            if not copy.read_bytes:
                copy.reading_since = step
            left -= nbytes
            if not self._is_right(place, copy, copy.read_bytes, nbytes):
                return False, most_bytes - left
            copy.read_bytes += nbytes
            if copy.read_bytes == copy.nbytes:
                copy.read_bytes, copy.read_step = 0, max(copy.read_step, copy.reading_since)
                self._turn += 1
            if not left:
                break
        return True, most_bytes - left

    def _is_right(self, place: tuple[str, str], copy: HeldCopy, begin: int, nbytes: int) -> bool:
        if _is_as_original(copy, begin, nbytes):
            return True
        self._copies[place[0]].pop(place[1], None)
        self.trust.doubt(place, copy.sign)
        return False


class Comparisons:
    """How much is compared: a share of the time of one processor, and at least a piece for each copy.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = clock.monotonic()
        self._bytes_per_s = 2e9

    def are_right(self, held: HeldCopies, kept: Mapping[str, Mapping[str, int]], step: int) -> bool:
        """Whether the copies `kept` that have their turn are as their originals behind the boundary of `step`."""
        began = self._clock.monotonic()
        most_bytes = max(LEAST_READ_BYTES, int(READ_SHARE * (began - self._until) * self._bytes_per_s))
        right, nbytes = held.compare(kept, step, most_bytes)
        self._until = self._clock.monotonic()
        if nbytes >= LEAST_READ_BYTES and self._until > began:
            self._bytes_per_s = nbytes / (self._until - began)
        return right


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
