"""What survives a sudden death: copies of the state in memory that the governor holds too.

There are two halves, so that one is whole while the other is written. A copy is sealed when its digests are known: at once
for a small state, on a thread of its own for a large one, because to read a gigabyte takes the time of a step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from backprop_core.background import in_background
from backprop_core.checkpoints import survivor_header
from backprop_core.checkpoints.array_files import PlannedFile
from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.codec import Snapshot, StagingBuffers
from backprop_core.checkpoints.files import FileFacts, digest_of_all
from backprop_core.checkpoints.folder import plan_folder
from backprop_core.checkpoints.held_copies import Comparisons
from backprop_core.checkpoints.manifest import CheckpointFacts, Manifest
from backprop_core.checkpoints.memory import address_of, address_of_any
from backprop_core.checkpoints.shared_memory import SharedMemory
from backprop_core.checkpoints.survivor_header import Record
from backprop_core.checkpoints.survivor_memory import Span, describe, of_ranks, with_compared_at
from backprop_core.checkpoints.unchanged import KeptApart
from backprop_core.clock import Clock
from backprop_core.outcome import SaveReason
from backprop_core.own_descriptor import OwnDescriptor
from backprop_core.runs.handover import MemoryOwner, hand_over
from backprop_core.session.spare_memory import SpareMemory

AT_ONCE_BYTES = 4 << 20
"""Up to here the digests are taken where the copy is made: a thread would be later than that."""
_FILES, _DESCRIPTION = "files", "description"


class _Sealed(NamedTuple):
    """A copy that is whole.

    Attributes:
        sequence: higher in the one that was sealed later.
        step: the boundary's.
        proven: every byte of it was copied at this boundary, or compared with the training behind it.
    """

    sequence: int
    step: int
    proven: bool


class Survivor:
    """The halves, and the line to the governor that holds them too.

    Attributes:
        halves: memory for two copies.
        notes: sentences for the user.
        discarded: a copy was given up, because something in it was not what it seemed: another one is wanted soon.
        spared: the number of a copy that is not written over, because other processes have theirs of the same step; 0: none.
    """

    def __init__(
        self,
        memory: SharedMemory,
        line: OwnDescriptor,
        translators: Sequence[Translator],
        clock: Clock,
        spare: SpareMemory | None = None,
    ) -> None:
        self.halves = [StagingBuffers(translators, memory) for _ in range(survivor_header.HALVES)]
        for half in self.halves[1:]:
            half.held.trust = self.halves[0].held.trust
        self.notes: list[str] = []
        self.discarded = False
        self.spared = 0
        self._given_up: set[int] = set()
        self._spare = SpareMemory(clock) if spare is None else spare
        self._memory = memory
        self._line = line
        self._clock = clock
        self._sequence = 0
        self._whole: dict[int, _Sealed] = {}
        """The halves that are sealed."""
        self._known: dict[tuple[int, str], tuple[tuple[bytes, tuple[int, ...]], str]] = {}
        """Of files of earlier copies, by half and name: what they were made of, and their digest."""
        self._sealing: threading.Thread | None = None
        self._compared = Comparisons(clock)
        self._mixed: set[int] = set()
        self._pid = os.getpid()

    def choose(self, free: Sequence[int]) -> int | None:
        """Which of the halves that nobody reads is to be written next: one whose copy is not whole, or else is the older.

        None where nothing whole would be left meanwhile, and while a copy is not sealed yet.
        """
        if self.sealing:
            return None
        whole, held = self._whole, len(self.halves) - len(self._given_up)
        halves = [half for half in free if half not in self._given_up]
        halves = [half for half in halves if held == 1 or not self._is_spared(half)]
        halves = [half for half in halves if half not in whole or len(whole) > 1 or held == 1]
        return min(halves, key=self._age, default=None)

    def _age(self, half: int) -> int:
        """The higher, the newer; 0 where nothing is sealed."""
        return self._whole[half].sequence if half in self._whole else 0

    @property
    def sealed_step(self) -> int | None:
        """The step of the newest copy that is whole, or None."""
        newest = max(self._whole.values(), default=None)
        return None if newest is None else newest.step

    def may_keep(self, snapshot: Snapshot) -> bool:
        """Whether it pays not to copy what shows no change: a small state is copied faster than compared."""
        return snapshot.nbytes > AT_ONCE_BYTES

    def _is_spared(self, half: int) -> bool:
        return self.spared > 0 and self._age(half) == self.spared

    @property
    def newest(self) -> int:
        """The number of the newest copy that is whole; 0 while none is."""
        return max(map(self._age, self._whole), default=0)

    def reserve(self, snapshot: Snapshot) -> None:
        """Take the memory that copies like this one need, for two of them where there is enough."""
        for half, buffers in enumerate(self.halves):
            if half and self._spare.is_short(snapshot.nbytes):
                self._give_up_second(half)
            if half not in self._given_up:
                snapshot.reserve(buffers)

    def economize(self, free: Sequence[int], let_go: Callable[[], None] = lambda: None) -> bool:
        """Give the second copy up when memory has become short.

        Args:
            free: the halves that the writer does not read.
            let_go: has whoever else may read a half let go of it.

        Returns:
            Whether it was given up now. The other is better not renewed at once: the kernel may be about to kill.
        """
        if (
            self._given_up
            or self.sealing
            or len(free) < len(self.halves)
            or not self._spare.has_become_short()
        ):
            return False
        let_go()
        self._give_up_second(min(free, key=lambda half: (self._is_spared(half), self._age(half))))
        return True

    def _give_up_second(self, half: int) -> None:
        self._given_up.add(half)
        self.give_up(half)
        free_gb = self._spare.free_bytes / 1e9
        self.notes.append(
            f"Memory is low ({free_gb:.1f} GB free), so one copy of the state is kept in memory instead of two: a sudden "
            "death while it is renewed costs everything since the last checkpoint."
        )

    @property
    def sealing(self) -> bool:
        """Whether a copy is not sealed yet."""
        return self._sealing is not None and self._sealing.is_alive()

    def settle(self) -> None:
        """Wait until the last copy is sealed."""
        if self._sealing is not None:
            self._sealing.join()

    def passed(self, step: int, stride: int) -> None:
        """Training has come to `step`; it is asked at one boundary in `stride`."""
        survivor_header.write_step(self._memory.header, step, stride)

    def wipe(self, half: int) -> None:
        """A half is about to be written; until it is sealed nobody takes it."""
        survivor_header.wipe(self._memory.header, half)
        self._whole.pop(half, None)
        self._mixed.discard(half)

    def mixes(self, half: int) -> bool:
        """Whether the copy in this half was given up, because it may hold what an array was at an earlier step."""
        self.settle()
        return half in self._mixed

    def seal(self, half: int, snapshot: Snapshot, facts: CheckpointFacts) -> None:
        """`snapshot`, whose arrays lie in this half, is a checkpoint of `facts` from now on, or from in a moment.

        Where facts say that it is one rank's copy of several, they give its number, too.
        """
        among = of_ranks(facts)
        self._sequence = self._sequence + 1 if among is None else among.number
        facts = replace(facts, reason=SaveReason.SURVIVOR)
        if snapshot.nbytes <= AT_ONCE_BYTES:
            self._seal(half, self._sequence, snapshot, facts)
            return
        self._sealing = in_background(self._seal, "backprop-survivor", half, self._sequence, snapshot, facts)

    def _seal(self, half: int, sequence: int, snapshot: Snapshot, facts: CheckpointFacts) -> None:
        try:
            if snapshot.kept and not self._compared.are_right(
                self.halves[half].held, snapshot.kept, facts.step
            ):
                self._discard(half)
                return
            place, digest = self._described(half, snapshot, facts)
        except (
            Exception
        ) as error:  # a copy less; training goes on, and the next checkpoint says what is wrong
            self.notes.append(
                f"A copy of the state does not survive a sudden death: {error or type(error).__name__}."
            )
            return
        survivor_header.seal(self._memory.header, half, Record(sequence, *place, digest))
        proven = self.halves[half].held.read_since(snapshot.kept) in (None, facts.step)
        self._whole[half] = _Sealed(sequence, facts.step, proven)

    def _discard(self, half: int) -> None:
        """Give up the copy in this half, and the other one if it too may hold what an array was at an earlier step.

        The array may have changed after this boundary only. Better none than one that mixes steps: the next comes soon.
        """
        self._mixed.add(half)
        for other in [other for other, sealed in self._whole.items() if not sealed.proven]:
            self.wipe(other)
            self._mixed.add(other)
        self.discarded = True

    def _described(self, half: int, snapshot: Snapshot, facts: CheckpointFacts) -> tuple[Span, bytes]:
        """Write what is no array, and the description; where that lies, and its digest."""
        kept = snapshot.kept
        among = of_ranks(facts)
        plan = plan_folder(snapshot, KeptApart(kept) if kept else None, None if among is None else among.rank)
        facts = with_compared_at(facts, self.halves[half].held.read_since(kept))
        made_of = {
            plan.objects[name].apart or plan.objects[name].arrays: tuple(numbers.values())
            for name, numbers in kept.items()
            if plan.objects[name].apart or len(numbers) == len(snapshot.objects[name].arrays)
        }
        rest: list[bytes | memoryview] = []
        files: dict[str, FileFacts] = {}
        spans = {}
        for name, file in plan.files.items():
            files[name], spans[name] = self._file(file, rest, (half, name), made_of.get(name))
        begin, _ = self._put(half, _FILES, rest)
        placed = {
            name: [(place[0] + begin if relative else place[0], place[1]) for relative, *place in listed]
            for name, listed in spans.items()
        }
        manifest = Manifest(facts, files, plan.objects, 0.0, self._clock.wall())
        text, digest = describe(manifest, placed)
        return self._put(half, _DESCRIPTION, [text]), digest

    def _file(
        self,
        file: PlannedFile,
        rest: list[bytes | memoryview],
        place: tuple[int, str],
        made_of: tuple[int, ...] | None,
    ) -> tuple[FileFacts, list[tuple[bool, int, int]]]:
        """A file's digest, and its spans: places in the memory, or in `rest`, which what is not there is added to.

        Args:
            place: its half and name.
            made_of: the numbers of the earlier copies that it is made of; such a file is not read each time.
        """
        spans, at = [], sum(len(one) for one in rest)
        for chunk in file.chunks():
            if not len(chunk):
                continue
            offset = None
            if isinstance(chunk, memoryview):
                offset = self._memory.offset_of(address_of_any(chunk), len(chunk))
            if offset is None:
                rest.append(chunk)
                spans.append((True, at, len(chunk)))
                at += len(chunk)
            else:
                spans.append((False, offset, len(chunk)))
        return FileFacts(file.nbytes, self._digest(file, place, made_of)), spans

    def _digest(self, file: PlannedFile, place: tuple[int, str], made_of: tuple[int, ...] | None) -> str:
        if made_of is None:
            return digest_of_all(file.chunks())
        key = bytes(next(iter(file.chunks()))), made_of  # the header, and what follows it
        known = self._known.get(place)
        if known is None or known[0] != key:
            known = self._known[place] = key, digest_of_all(file.chunks())
        return known[1]

    def _put(self, half: int, name: str, parts: Sequence[bytes | memoryview]) -> Span:
        """Write `parts` into a room of their own; where that begins, and how many bytes they are."""
        nbytes = sum(len(part) for part in parts)
        if not nbytes:
            return 0, 0
        room, at = self.halves[half].room(name, nbytes), 0
        for part in parts:
            room[at : at + len(part)] = part
            at += len(part)
        offset = self._memory.offset_of(address_of(room), nbytes)
        assert offset is not None
        return offset, nbytes

    def give_up(self, half: int) -> None:
        """Give the memory of one half back."""
        self.settle()
        self.wipe(half)
        self.halves[half].release()

    def close(self, *, leave: bool) -> None:
        """The training is over.

        Args:
            leave: what was copied is newer than all that is committed, and stays for the governor.
        """
        if os.getpid() != self._pid:
            return
        self.settle()
        for number, half in enumerate(self.halves):
            if leave:
                half.unpin()
            else:
                self.give_up(number)
        self._memory.close()
        self._line.close()


def join_survivor(
    attempt: Path, owner: MemoryOwner, translators: Sequence[Translator], clock: Clock
) -> Survivor | None:
    """Memory that outlives this process, if the governor of the attempt in this folder holds it too; else None."""
    try:
        memory = SharedMemory()
    except OSError:
        return None
    survivor_header.begin(memory.header)
    made = hand_over(attempt, memory.fd, owner)
    if made is None:
        memory.close()
        return None
    line = OwnDescriptor(made.detach())
    line.keep_from_children()  # a loader's worker would hide the training's end from the governor
    return Survivor(memory, line, translators, clock)
