"""Which arrays have not changed since the last committed checkpoint, so that they need not be copied and written again.

What is kept here only says where it is worth looking: a sample of each large array, and the framework's own count of
changes where there is one. Whether a file of the last checkpoint may stand in the new one is decided by its digest, over
every byte, computed from the state itself.

Only files can be shared, so the arrays of an object that stay as they are get a file of their own once they are worth it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Final, Protocol

from backprop_core.errors import CheckpointWriteError
from backprop_core.outcome import SaveReason
from backprop_core.quick_dataclass import dataclass

from .arrays import Dense
from .files import FileFacts, digest_of_all
from .manifest import ObjectFiles
from .memory import can_read_memory, view_at

MOST_QUIET_SAVES: Final = 64
_SAMPLES: Final = 256
_OFFSET: Final = int.from_bytes(os.urandom(4), "little")


class ChangedMeanwhileError(CheckpointWriteError):
    """An array that was to stay where it lies was changed before it was read. The save is to be repeated.

    Attributes:
        reason: why the checkpoint was to be made; None until the store has said so.
    """

    reason: SaveReason | None = None


@dataclass(frozen=True, slots=True)
class Worth:
    """What is worth the trouble.

    Attributes:
        array_bytes: smaller arrays are copied and written with those that change: that costs less than questions about them.
        file_bytes: a smaller file is written again: a copy of its own is worth more than what sharing saves.
        share: of an object's bytes so much has to stay as it is before it is parted into two files, or parted anew.
    """

    array_bytes: int = 256 << 10
    file_bytes: int = 1 << 20
    share: float = 0.1


@dataclass(frozen=True, slots=True)
class Before:
    """The file of the last committed checkpoint that a new one is likely to equal."""

    checkpoint: str
    facts: FileFacts


@dataclass(frozen=True, slots=True)
class Parting:
    """How the arrays of one object become files.

    Attributes:
        apart: those that get a file of their own, because they stay as they are; often none.
        apart_stays: whether that file is likely to be the one of the last checkpoint.
        whole_stays: the same of the one file of an object that is not parted.
    """

    apart: frozenset[str] = frozenset()
    apart_stays: bool = False
    whole_stays: bool = False


class Divides(Protocol):
    """Says which arrays of an object get a file of their own."""

    def part(self, name: str, arrays: Mapping[str, Dense], in_place: frozenset[str]) -> Parting: ...
    def before(self, file: str, nbytes: int) -> Before | None: ...
    def differs(self, name: str, arrays: Mapping[str, Dense]) -> None: ...


class KeptApart:
    """Those that were copied earlier, whose file's digest is known; no file is likely to equal one on a disk.

    Args:
        kept: by object.
    """

    def __init__(self, kept: Mapping[str, Mapping[str, int]]) -> None:
        self._kept = kept

    def part(self, name: str, arrays: Mapping[str, Dense], in_place: frozenset[str]) -> Parting:
        kept = frozenset(self._kept.get(name, ()))
        return Parting(kept) if kept and len(kept) < len(arrays) else Parting()

    def before(self, file: str, nbytes: int) -> Before | None:
        return None

    def differs(self, name: str, arrays: Mapping[str, Dense]) -> None:
        """Nothing is compared."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One large array as it was last saved.

    Attributes:
        sample: some of its bytes; None where a look at it is dear: on a device.
        version: the framework's count of changes to it, or None.
        quiet: in how many saves in a row it had not changed; `needed` so many make it one of those that stay.
        digest: of its bytes, known while it lies in the file of those that stay.
        by_us: whether this process has saved it, rather than found it in a checkpoint.
    """

    nbytes: int
    sample: bytes | None = None
    version: int | None = None
    quiet: int = 0
    needed: int = 1
    digest: str | None = None
    by_us: bool = True

    @property
    def stays(self) -> bool:
        return self.quiet >= self.needed

    def restless(self) -> _Seen:
        """It changed although it was thought to stay: it is believed later the next time."""
        return replace(self, quiet=0, needed=min(2 * self.needed, MOST_QUIET_SAVES), digest=None)


@dataclass(slots=True)
class _Object:
    """One tracked object in the last committed checkpoint.

    Attributes:
        arrays: the large ones.
        apart: those in a file of their own.
        stayed_whole: its one file was the one of the checkpoint before.
        never_whole: that nothing in it had changed was wrong once.
    """

    arrays: dict[str, _Seen] = field(default_factory=dict)
    apart: frozenset[str] = frozenset()
    stayed_whole: bool = False
    never_whole: bool = False


class Unchanged:
    """What is known of the arrays of the last committed checkpoint.

    Used by one thread at a time: by the one that commits, and between two commits by the one that copies for the next.
    """

    def __init__(self, worth: Worth | None = None) -> None:
        self.worth = worth or Worth()
        self._distrusts = False
        self._reset()

    def forget(self) -> None:
        """Share nothing with what was saved so far: one of its files is damaged, in all checkpoints that share it."""
        self._reset()
        self._distrusts = True

    def _reset(self) -> None:
        self._objects: dict[str, _Object] = {}
        self._planned: dict[str, _Object] = {}
        self._checkpoint = ""
        self._files: Mapping[str, FileFacts] = {}

    def begin(self) -> None:
        """A save begins; what was planned for one that failed is nothing any more."""
        self._planned = {}

    @property
    def looks_back(self) -> bool:
        """Whether the last checkpoint is still to be found: a process that goes on."""
        return not self._checkpoint and not self._distrusts

    def before(self, file: str, nbytes: int) -> Before | None:
        """The file of that name and size in the last checkpoint, if it is worth sharing."""
        facts = self._files.get(file)
        if facts is None or facts.nbytes != nbytes or nbytes < self.worth.file_bytes:
            return None
        return Before(self._checkpoint, replace(facts, linked=False))

    def left_in_place(self, name: str, arrays: Mapping[str, Dense]) -> frozenset[str]:
        """Those arrays of an object that need no copy: they look as in the last checkpoint, and lie in its shared file.

        All of that file's large arrays have to: otherwise it is written anew, for which a copy is needed.
        """
        known = self._objects.get(name)
        if known is None or not can_read_memory():
            return frozenset()
        keys = known.apart or (known.arrays.keys() if known.stayed_whole else frozenset())
        for key in keys:
            dense, seen = arrays.get(key), known.arrays[key]
            if dense is None or not (
                dense.address and seen.stays and seen.by_us and _same(seen, _now(dense))
            ):
                return frozenset()
        return frozenset(keys)

    def part(self, name: str, arrays: Mapping[str, Dense], in_place: frozenset[str]) -> Parting:
        """How the arrays of an object are laid out in the checkpoint that is being made.

        Args:
            name: of the object.
            arrays: what is saved of it.
            in_place: what `left_in_place` said at the boundary, if it was asked.
        """
        known = self._objects.get(name, _Object())
        if in_place and in_place != (known.apart or (known.stayed_whole and known.arrays.keys())):
            raise ChangedMeanwhileError("Another save came between a copy of the state and its own.")
        seen = {
            key: replace(known.arrays[key], quiet=known.arrays[key].quiet + 1)
            if key in in_place
            else _look(dense, known.arrays.get(key))
            for key, dense in arrays.items()
            if dense.nbytes >= self.worth.array_bytes
        }
        planned = self._planned[name] = _Object(seen, known.apart, never_whole=known.never_whole)
        if in_place:
            return Parting(known.apart, bool(known.apart), not known.apart)
        staying = frozenset(key for key, one in seen.items() if one.stays)
        planned.never_whole = known.never_whole and len(staying) < len(arrays)
        whole_stays = bool(seen) and len(staying) == len(seen) and not (known.apart or planned.never_whole)
        planned.apart = frozenset() if whole_stays else self._apart(known, arrays, staying)
        return Parting(planned.apart, bool(planned.apart) and planned.apart == known.apart, whole_stays)

    def _apart(self, known: _Object, arrays: Mapping[str, Dense], staying: frozenset[str]) -> frozenset[str]:
        """The arrays for a file of their own. The one that is there is kept long: another would have to be written."""
        least = max(self.worth.file_bytes, self.worth.share * _nbytes(arrays, arrays))
        if known.apart and known.apart <= staying and _nbytes(arrays, staying - known.apart) < least:
            return known.apart
        return staying if len(staying) < len(arrays) and _nbytes(arrays, staying) >= least else frozenset()

    def differs(self, name: str, arrays: Mapping[str, Dense]) -> None:
        """The file of object `name` that was likely to stay has another digest; `arrays` are those in it."""
        changed = {
            key
            for key, dense in arrays.items()
            if (seen := self._planned[name].arrays.get(key)) is not None
            and seen.digest is not None
            and seen.digest != digest_of_all(dense.pieces())
        }
        for one in (self._objects.get(name), self._planned[name]):
            if one is None:
                continue
            small_ones_did = not one.apart and len(one.arrays) < len(arrays)
            one.never_whole |= not one.apart
            for key in () if small_ones_did else changed or one.arrays.keys() & arrays.keys():
                one.arrays[key] = one.arrays[key].restless()

    def committed(
        self,
        checkpoint: str,
        files: Mapping[str, FileFacts],
        objects: Mapping[str, ObjectFiles],
        arrays: Mapping[str, Mapping[str, Dense]],
    ) -> None:
        """What was planned is on the disk.

        Args:
            checkpoint: its name.
            files, objects: what its manifest says.
            arrays: by object, what was saved of it, to tell later which array of a file has changed; empty in a hurry.
        """
        for name, planned in self._planned.items():
            parts = objects[name]
            planned.stayed_whole = (
                parts.apart is None and parts.arrays is not None and files[parts.arrays].linked
            )
            if parts.apart is not None and not files[parts.apart].linked:
                for key in planned.apart & arrays.get(name, {}).keys():
                    digest = digest_of_all(arrays[name][key].pieces())
                    planned.arrays[key] = replace(planned.arrays[key], digest=digest)
        self._objects, self._planned = self._planned, {}
        self._checkpoint, self._files = checkpoint, files
        self._distrusts = False

    def begin_from(
        self, checkpoint: str, files: Mapping[str, FileFacts], apart: Mapping[str, frozenset[str]]
    ) -> None:
        """A new process goes on from a checkpoint; `apart`: by object, the arrays that stayed as they were in it."""
        self._checkpoint, self._files = checkpoint, files
        unseen = _Seen(0, quiet=1, by_us=False)
        self._objects = {name: _Object(dict.fromkeys(keys, unseen), keys) for name, keys in apart.items()}


def _nbytes(arrays: Mapping[str, Dense], keys: Iterable[str]) -> int:
    return sum(arrays[key].nbytes for key in keys)


def _look(dense: Dense, before: _Seen | None) -> _Seen:
    """An array that is saved now, beside what it was in the save before."""
    now = _now(dense)
    if before is None:
        return now
    if _same(before, now):
        return replace(now, quiet=before.quiet + 1, needed=before.needed, digest=before.digest)
    return replace(now, needed=before.needed if before.digest is None else before.restless().needed)


def _same(before: _Seen, now: _Seen) -> bool:
    """Whether an array looks as it was; no proof."""
    if before.nbytes != now.nbytes or not before.by_us:
        return not before.by_us
    if before.version is not None and now.version is not None and before.version != now.version:
        return False
    if before.sample is None or now.sample is None:
        return before.version is not None and now.version is not None
    return before.sample == now.sample


def _now(dense: Dense) -> _Seen:
    return _Seen(dense.nbytes, _sample(dense), dense.version)


def _sample(dense: Dense) -> bytes | None:
    """Words spread over a whole array, at places that differ from process to process; None if it lies on a device."""
    if not dense.address:
        return None
    words = view_at(dense.address, dense.nbytes & ~7).cast("Q")
    stride = max(1, len(words) // _SAMPLES)
    return words[_OFFSET % stride :: stride].tobytes()
