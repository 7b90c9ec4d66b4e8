"""Checkpoints as a session makes them: in the background at a boundary, or here and now."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from backprop_core.background import in_background
from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.codec import Snapshot, StagingBuffers, capture
from backprop_core.checkpoints.manifest import CheckpointFacts, CheckpointInfo
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.checkpoints.survivor_memory import of_ranks
from backprop_core.checkpoints.unchanged import Unchanged
from backprop_core.checkpoints.writer import Writer
from backprop_core.clock import Clock
from backprop_core.deadline.forecast import Forecast
from backprop_core.errors import CheckpointError, CheckpointWriteError
from backprop_core.outcome import SaveReason

if TYPE_CHECKING:
    from backprop_core.session.survivor import Survivor

_LAST = (SaveReason.DEADLINE, SaveReason.PREEMPTED)
"""Saves that are in a hurry: older checkpoints are cleared away by the next attempt instead."""

_GATHERINGS = 6
_MOSTLY = 0.9
_READ_BYTES_PER_S = 4e9
"""How fast memory is read, roughly."""


class NoRoomForCopyError(CheckpointWriteError):
    """There is no memory for a copy of the state; it can be saved from where it lies, and training waits."""


class Saver:
    """Saves what it is given and tells the forecast what it cost.

    Attributes:
        newest: the newest checkpoint committed by this attempt, or None.
        state_bytes: bytes of the last snapshot; 0 before the first.
        copy_s: seconds the last copy into the reused buffers took.
        read_behind_s: seconds that the writer's thread spends on what the last one in the background left in place.
        notes: sentences for the user, to be taken out when they are told.
        survivor: where copies lie that survive this process; None where nobody else would hold them.
        no_room: no memory was to be had for a copy, so none is made any more.
    """

    def __init__(
        self,
        store: CheckpointStore,
        clock: Clock,
        forecast: Forecast,
        translators: Sequence[Translator],
        survivor: Survivor | None = None,
    ) -> None:
        self.store = store
        self.newest: CheckpointInfo | None = None
        self.state_bytes = 0
        self.copy_s = 0.0
        self.read_behind_s = 0.0
        self._gathered_s: deque[float] = deque(maxlen=_GATHERINGS)
        self._before_s = 0.0
        self._clock = clock
        self._forecast = forecast
        self._translators = translators
        self.survivor = survivor
        self.no_room = False
        self.notes: list[str] = [] if survivor is None else survivor.notes
        self._slots = [StagingBuffers(translators)] if survivor is None else survivor.halves
        self._copied_to = self._written_from = 0
        self._reserving: threading.Thread | None = None
        self._writer = Writer(store, clock)
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """A background save is in flight."""
        return self._writer.busy

    def gathered(self, seconds: float) -> None:
        """Asking training for its state took so long, before a save or copy was given it.

        A walk over a data set of many objects may take longer than writing the state; a save at the deadline needs both.
        """
        self._gathered_s.append(seconds)

    @property
    def _gathering_s(self) -> float:
        """The longest lately: a busy machine makes one of them twice as long as the next."""
        return max(self._gathered_s, default=0.0)

    def take(self, states: Mapping[str, object]) -> Snapshot:
        """Take the states apart without copying them.

        Raises:
            UnsavableStateError: a value that cannot be stored; names where it sits.
        """
        snapshot = capture(states, self._translators)
        self.state_bytes = snapshot.nbytes
        return snapshot

    @property
    def may_copy(self) -> bool:
        """Whether there are buffers that nobody reads, and that need not be waited for."""
        reserving = self._reserving is not None and self._reserving.is_alive()
        return not reserving and not self.no_room and self._free_slot() is not None

    def _free_slot(self) -> int | None:
        """Buffers that nobody reads, and whose copy may go."""
        free = self._unread_slots()
        return next(iter(free), None) if self.survivor is None else self.survivor.choose(free)

    def _unread_slots(self) -> list[int]:
        return [n for n in range(len(self._slots)) if not (self.busy and n == self._written_from)]

    def copied(
        self,
        states: Mapping[str, object],
        facts: CheckpointFacts,
        unchanged: Unchanged | None = None,
        *,
        keep: bool = False,
    ) -> Snapshot:
        """The states in the reused buffers, safe from the steps that follow. Only where `may_copy`.

        With `unchanged` what looks as in the last checkpoint is not copied, and the save may have to be repeated. With
        `keep` large arrays that show no change since they were copied for a survivor are not copied again.

        Raises:
            UnsavableStateError: a value that cannot be stored.
            NoRoomForCopyError: there is no memory for it.
        """
        with self._lock:  # whoever still allocates the buffers is not part of what a copy costs
            slot = self._free_slot()
            assert slot is not None
            start = self._clock.monotonic()
            snapshot = self.take(states)
            is_copy_of_ranks = snapshot.shards is not None and of_ranks(facts) is not None
            if self.survivor is not None:
                self.survivor.wipe(slot)
            try:
                if self.survivor is not None and is_copy_of_ranks:
                    self.survivor.reserve(snapshot)
                staged = snapshot.staged(
                    self._slots[slot],
                    unchanged=unchanged,
                    step=None if self.survivor is None else facts.step,
                    keep=keep and self.survivor is not None and self.survivor.may_keep(snapshot),
                )
            except MemoryError as error:
                slot, staged = 0, self._staged_elsewhere(snapshot, unchanged, error)
            self._copied_to = slot
            if (
                self.survivor is not None
                and (staged.shards is None or is_copy_of_ranks)
                and not any(one.in_place for one in staged.objects.values())
            ):
                self.survivor.seal(slot, staged, _with_cost(facts, self._clock.monotonic() - start))
            self.copy_s = self._clock.monotonic() - start
        return staged

    def _staged_elsewhere(
        self, snapshot: Snapshot, unchanged: Unchanged | None, error: MemoryError
    ) -> Snapshot:
        """The copy in memory of this process's own, where `error` is that there was no other."""
        if self.survivor is not None and self.busy:  # the writer reads the other half: later
            raise NoRoomForCopyError(f"The state was not copied: {error}.") from error
        if self.survivor is not None:
            self._nothing_survives(error)
            try:
                return snapshot.staged(self._slots[0], unchanged=unchanged)
            except MemoryError as again:
                error = again
        self._nothing_is_copied(error)
        raise NoRoomForCopyError(f"The state was not copied: {error}.") from error

    def _nothing_is_copied(self, error: MemoryError) -> None:
        self.no_room = True
        self.notes.append(f"{error}, so training waits for each checkpoint until it is written.")
        self._slots = [StagingBuffers(self._translators)]

    def economize(self, let_go: Callable[[], None]) -> bool:
        """Where memory has become short, give the second copy up; whether it was given up now. `let_go`: see `Survivor`."""
        reserving = self._reserving is not None and self._reserving.is_alive()
        if self.survivor is None or reserving:
            return False
        return self.survivor.economize(self._unread_slots(), let_go)

    def reserve(self, states: Mapping[str, object]) -> None:
        """Allocate what copies of these states need, in a thread of its own: once, before a deadline can press."""
        snapshot = self.take(states)

        def allocate() -> None:
            with self._lock:
                try:
                    if self.survivor is not None:
                        self.survivor.reserve(snapshot)
                        return
                except MemoryError as error:
                    self._nothing_survives(error)
                try:
                    snapshot.reserve(self._slots[0])
                except MemoryError as error:
                    self._nothing_is_copied(error)

        self._reserving = in_background(allocate, "backprop-reserve")

    def _nothing_survives(self, error: MemoryError) -> None:
        """There is no memory to be had that another process could hold: copies are this one's own from now on."""
        assert self.survivor is not None
        self.notes.append(f"{error}, so a sudden death costs everything since the last checkpoint.")
        self.survivor.close(leave=False)
        self.survivor = None
        self._slots = [StagingBuffers(self._translators)]
        self._copied_to = self._written_from = 0

    def save_behind(self, states: Mapping[str, object], facts: CheckpointFacts) -> bool:
        """Copy the states and let the writer thread save them; False if it is still busy with others.

        Raises:
            UnsavableStateError, NoRoomForCopyError: as `copied`.
        """
        if self._writer.busy:
            return False
        if self.survivor is not None:
            self.survivor.settle()
        staged = self.copied(states, facts, self.store.unchanged)
        self._written_from = self._copied_to
        left = sum(state.left_nbytes for state in staged.objects.values())
        self.read_behind_s = left / _READ_BYTES_PER_S
        made_of_files = any(state.raw for state in staged.objects.values())
        self._before_s = self._gathering_s
        self._before_s += (
            self.copy_s if made_of_files else 0.0
        )  # a save at once makes the file's bytes itself
        return self._writer.submit(staged, facts)

    def save_now(self, states: Mapping[str, object], facts: CheckpointFacts) -> CheckpointInfo:
        """Save and return when it is on disk. A save in flight is waited for first.

        Raises:
            CheckpointWriteError: it did not reach the disk.
            UnsavableStateError: a value that cannot be stored.
        """
        self._writer.join(None)
        began = self._clock.monotonic()
        snapshot = self.take(states)
        info = self.store.commit(snapshot, facts, retain=facts.reason not in _LAST)
        end = self._clock.monotonic()
        self._observe(info, end - began + self._gathering_s)
        self.newest = info
        return info

    def commit_copy(self, snapshot: Snapshot, facts: CheckpointFacts) -> CheckpointInfo:
        """Save what `copied` returned; called by the guard's thread.

        Raises:
            CheckpointWriteError: it did not reach the disk, or is not what the state was.
        """
        start = self._clock.monotonic()
        with self._lock:
            if snapshot.kept:
                from backprop_core.checkpoints.survivor_memory import (
                    with_compared_at,  # late: only where there is one
                )

                if self.survivor is not None and self.survivor.mixes(self._copied_to):
                    raise CheckpointWriteError(
                        f"The copy of step {facts.step} was not saved: an array that was taken for unchanged has changed."
                    )
                facts = with_compared_at(facts, self._slots[self._copied_to].held.read_since(snapshot.kept))
            info = self.store.commit(snapshot, facts, retain=False)
        self._observe(info, self._clock.monotonic() - start)
        self.newest = info
        return info

    def finished(self) -> list[CheckpointInfo | CheckpointError]:
        """What the writer thread has finished since the last call."""
        results = self._writer.poll()
        for result in results:
            if isinstance(result, CheckpointInfo):
                self._observe(result, result.save_s + self._before_s)
                if self.newest is None or result.step >= self.newest.step:
                    self.newest = result
        return results

    def _observe(self, info: CheckpointInfo, seconds: float) -> None:
        """A save that linked files is quick, and says nothing of one for which more has changed: time is kept for that."""
        written = info.nbytes - info.linked_nbytes
        likely_s = self._forecast.save_likely_s(info.nbytes)
        if written >= _MOSTLY * info.nbytes or seconds > likely_s:
            self._forecast.observe_save(info.nbytes, seconds)
        else:
            self._forecast.saves_seen += 1

    def wait(self) -> None:
        """Return when no save is in flight."""
        self._writer.join(None)

    def close(self, *, completed: bool = False) -> None:
        """Wait for the save in flight, end the thread, and let go of the buffers.

        Args:
            completed: the training is over, and no copy of it is wanted.
        """
        self._writer.join(None)
        self._writer.close()
        if self.survivor is not None:
            self.survivor.close(leave=not completed and self._is_behind(self.survivor))
            self.survivor = None
        self._slots = [StagingBuffers(self._translators)]

    def _is_behind(self, survivor: Survivor) -> bool:
        """Whether the newest copy is newer than the newest checkpoint."""
        survivor.settle()
        step = survivor.sealed_step
        return step is not None and (self.newest is None or self.newest.step < step)


def _with_cost(facts: CheckpointFacts, copy_s: float) -> CheckpointFacts:
    """The facts of a copy that say what a copy costs: of the first one that is only known when it is made."""
    if facts.extra.get("copy_s"):
        return facts
    return replace(facts, extra={**facts.extra, "copy_s": copy_s})
