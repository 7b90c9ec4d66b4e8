"""Reused memory that states are copied into, so that training may go on while they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from .arrays import Dense, Translator, allocate_ram, unpinned
from .held_copies import HeldCopies
from .memory import address_of, copy_memory
from .shared_memory import SharedMemory

_ALIGN = 64
_GROWTH = 8
"""An arena that was too small gets this part more than it needs: what grows once grows again."""


class StagingBuffers:
    """One slot of memory for one snapshot: allocated and touched once, then reused as long as the sizes stay.

    One arena for each tracked object and translator rather than a buffer for each array: pinning thousands of
    small buffers would take longer than the copies.

    Args:
        translators: those of the frameworks in use.
        shared: where arenas are taken from that another process is to see; None for memory of this process.
    """

    def __init__(self, translators: Sequence[Translator], shared: SharedMemory | None = None) -> None:
        self._translators = {translator.name: translator for translator in translators}
        self._shared = shared
        self._arenas: dict[tuple[str, str], memoryview] = {}
        self._unpin: dict[tuple[str, str], Callable[[], None]] = {}
        self.held = HeldCopies()
        """Copies of large arrays that lie in this slot, and may be taken again."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(len(arena) for arena in self._arenas.values())

    def prepare(
        self, name: str, arrays: Mapping[str, Dense], owners: Mapping[str, str]
    ) -> dict[str, memoryview]:
        """The place of each array of object `name`; allocates only what does not fit into what is there."""
        starts = self._lay_out(name, arrays, owners)
        return {
            key: self._arenas[name, owners[key]][start : start + arrays[key].nbytes]
            for key, start in starts.items()
        }

    def _lay_out(self, name: str, arrays: Mapping[str, Dense], owners: Mapping[str, str]) -> dict[str, int]:
        """Where each array begins in the arena of its translator, bytes; the arenas are large enough then."""
        needed: dict[str, int] = {}
        starts: dict[str, int] = {}
        for key, dense in arrays.items():
            owner = owners[key]
            starts[key] = start = needed.get(owner, 0)
            needed[owner] = start + dense.nbytes + -dense.nbytes % _ALIGN
        for owner, nbytes in needed.items():
            self._reserve((name, owner), nbytes)
        return starts

    def fill(
        self,
        name: str,
        arrays: Mapping[str, Dense],
        owners: Mapping[str, str],
        left: frozenset[str] = frozenset(),
        step: int | None = None,
        *,
        keep: bool = False,
    ) -> tuple[dict[str, Dense], Mapping[str, int]]:
        """Copy the arrays of object `name`; they may still be under way until `synchronize`.

        Plain memory is copied last, in one go: a copy leaves nothing of the interpreter in the processor's cache, with
        a few lines of Python and of the framework in front of each one every small array took five times as long (measured).

        Args:
            left: arrays that are not copied, and of which no copy is asked for.
            step: the boundary's; given where a later call may take these copies again.
            keep: take an earlier copy where it shows no difference.

        Returns:
            The copies; and those of them that are earlier ones, each with its number.
        """
        starts = self._lay_out(name, arrays, owners)
        arenas = {
            owner: self._arenas[name, owner]
            for owner in set(owners.values())
            if (name, owner) in self._arenas
        }
        bases = {owner: address_of(arena) for owner, arena in arenas.items()}
        places = {key: arenas[owners[key]] for key in arrays}
        kept = self.held.unchanged(name, arrays, starts, places) if keep else {}
        self.held.begin(name, left | kept.keys(), starts, places)
        copies: dict[str, Dense] = {}
        plain: list[tuple[int, int, int]] = []
        for key, dense in arrays.items():
            if key in left:
                continue
            start, nbytes, arena = starts[key], dense.nbytes, places[key]
            address = bases[owners[key]] + start
            if key in kept:
                pass
            elif dense.address:
                plain.append((address, dense.address, nbytes))
            else:
                dense.copy_into(arena[start : start + nbytes])
            copies[key] = _over(dense, arena, start, address)
        copy_memory(plain)
        if step is not None:
            copied = {key: arrays[key] for key in copies if key not in kept}
            self.held.copied(name, copied, starts, places, step)
        return copies, kept

    def synchronize(self) -> None:
        """Wait until every copy has really happened."""
        for translator in self._translators.values():
            translator.synchronize()

    def unpin(self) -> None:
        """Undo what made copies into it faster."""
        while self._unpin:
            self._unpin.popitem()[1]()

    def release(self) -> None:
        """Give all of it back; no snapshot over it may be in use."""
        for slot in [*self._arenas]:
            self._drop(slot)

    def room(self, name: str, nbytes: int) -> memoryview:
        """Memory for `nbytes` bytes that are no array's, under a name of its own."""
        self._reserve((name, ""), nbytes)
        return self._arenas[name, ""]

    def _reserve(self, slot: tuple[str, str], nbytes: int) -> None:
        arena = self._arenas.get(slot)
        if arena is not None and len(arena) >= nbytes:
            return
        grows = arena is not None
        del arena
        self._drop(slot)  # the old one goes before the new one comes: never both
        translator = self._translators.get(slot[1])  # none for a raw file, which is nobody's
        if self._shared is not None:
            arena = self._shared.allocate(nbytes + (nbytes // _GROWTH if grows else 0))
            self._unpin[slot] = unpinned if translator is None else translator.pin(arena)
        else:
            arena = allocate_ram(nbytes) if translator is None else translator.allocate(nbytes)
        self._arenas[slot] = arena

    def _drop(self, slot: tuple[str, str]) -> None:
        arena = self._arenas.pop(slot, None)
        self.held.forget(slot[0])
        self._unpin.pop(slot, unpinned)()
        if arena is not None and self._shared is not None:
            self._shared.release(arena)


def _over(dense: Dense, arena: memoryview, start: int, address: int) -> Dense:
    """The copy of an array, which begins `start` bytes into an arena, at `address`."""
    nbytes = dense.nbytes
    return Dense(
        dense.dtype,
        dense.shape,
        nbytes,
        partial(_view, arena, start, nbytes),
        partial(_copy, arena, start, nbytes),
        address,
        dense.version,
    )


def _view(arena: memoryview, start: int, nbytes: int) -> memoryview:
    return arena[start : start + nbytes].toreadonly()


def _copy(arena: memoryview, start: int, nbytes: int, buffer: memoryview) -> None:
    buffer[:] = arena[start : start + nbytes]
