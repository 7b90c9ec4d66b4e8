"""The record of a run that trains, kept up to date: what an editor or `backprop list` sees while it goes on.

It is written on a thread, so that a home that hangs, or a pattern that is dear to look for, never keeps the governor from
the deadline. The thread ends when there is nothing to write: where a governor with two threads is killed with -9, the kernel
sends SIGTERM to the script twice, once for each.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from backprop_cli.matching import Matches
from backprop_core.clock import Clock
from backprop_core.errors import BackpropError
from backprop_core.runs.hold import RunHold
from backprop_core.runs.record import KEPT_CHECKPOINTS, RunRecord, with_checkpoint, with_doubtful_checkpoint
from backprop_core.runs.store import RunStore

CHECKPOINTS_EVERY_S = 2.0
PROGRESS_EVERY_S = 10.0
PATIENCE_S = 5.0
"""Seconds that the thread gets to finish what it writes when the script has ended."""
_PAUSE_PER_WRITE = 100.0
"""A home that is slow, or that knows thousands of runs, is written to seldomer."""

Note = Callable[[], object]


class LiveRecord:
    """Writes what becomes known during one attempt. Only `_work` and what it calls runs on the thread.

    Args:
        store, hold: where the run is kept, and the right to write it.
        say: told once what could not be written; called by `look` and `close` only.
    """

    def __init__(self, store: RunStore, hold: RunHold, clock: Clock, say: Callable[[str], None]) -> None:
        self.matches: Matches | None = None
        self._store = store
        self._hold = hold
        self._clock = clock
        self._say = say
        self._notes: deque[Note] = deque()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._pending: dict[str, None] = {}
        self._announced: dict[str, None] = {}
        self._progress: tuple[int | None, float | None] = (None, None)
        self._written_progress: tuple[int | None, float | None] = (None, None)
        self._progress_at = self._next_at = clock.monotonic()
        self._busy = False
        self._troubles: list[str] = []
        self._said: set[str] = set()

    @property
    def has_checkpoint(self) -> bool:
        """Whether the script has saved anything in this attempt, as far as is known."""
        return bool(self._announced)

    def note(self, write: Note) -> None:
        """Have something written, behind all that was asked for before; that it cannot be is said and ends no training."""
        with self._lock:
            self._notes.append(write)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="backprop-record", daemon=True)
                self._thread.start()

    def checkpoint(self, path: str) -> None:
        """The session or the script has announced a checkpoint."""
        with self._lock:
            for newest in (self._pending, self._announced):
                newest.pop(path, None)
                newest[path] = None
                if len(newest) > KEPT_CHECKPOINTS:
                    del newest[next(iter(newest))]

    def look(self, step: int | None, loss: float | None) -> None:
        """Four times a second: have what is new written when it is time for it."""
        self._tell()
        self._progress = (step, loss)
        now = self._clock.monotonic()
        if self._busy or now < self._next_at:
            return
        if self.matches is not None or self._pending or self._progress_due(now):
            self._busy = True
            self.note(self._catch_up)

    def close(self, doubtful: Sequence[str] = (), checkpoints: Sequence[str] = ()) -> None:
        """The script has ended: write the rest, here and now.

        Args:
            doubtful: checkpoints that may be half-written, oldest first.
            checkpoints: all others that are known, oldest first.
        """
        self.stop()
        for path in checkpoints:
            self.checkpoint(path)
        self._write(doubtful)
        self._tell()

    def known(self, record: RunRecord, doubtful: Sequence[str]) -> RunRecord:
        """The record as it is now; where it cannot be read, `record` with what this attempt has saved since."""
        try:
            return self._store.load(record.id)
        except BackpropError:  # said when the end cannot be written either
            return _with_checkpoints(record, [*self._announced], doubtful)

    def stop(self) -> None:
        """Wait for the thread, but not for a disk that hangs."""
        thread = self._thread
        if thread is not None:
            thread.join(PATIENCE_S)

    def _progress_due(self, now: float) -> bool:
        return self._progress != self._written_progress and now - self._progress_at >= PROGRESS_EVERY_S

    def _tell(self) -> None:
        while self._troubles:
            trouble = self._troubles.pop(0)
            if trouble not in self._said:
                self._said.add(trouble)
                self._say(trouble)

    # On the thread

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._notes:
                    self._thread = None
                    return
                write = self._notes.popleft()
            try:
                write()
            except BackpropError as error:  # a full disk: the run goes on
                self._troubles.append(str(error))
            except Exception as error:  # our own fault, which must not end the writing of what comes
                self._troubles.append(f"The record of the run could not be updated: {error!r:.300}.")

    def _catch_up(self) -> None:
        began = self._clock.monotonic()
        try:
            for path in self.matches.look() if self.matches is not None else ():
                self.checkpoint(path)
            self._write()
        finally:
            now = self._clock.monotonic()
            self._next_at = now + max(CHECKPOINTS_EVERY_S, _PAUSE_PER_WRITE * (now - began))
            self._busy = False

    def _write(self, doubtful: Sequence[str] = ()) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        progress, now = self._progress, self._clock.monotonic()
        if not pending and not doubtful and not self._progress_due(now):
            return
        try:
            self._add(list(pending), doubtful, *progress)
        except BackpropError as error:  # it is tried again
            with self._lock:
                self._pending = {**pending, **self._pending}
            self._troubles.append(error.what)
        else:
            self._written_progress, self._progress_at = progress, now

    def _add(
        self, paths: Sequence[str], doubtful: Sequence[str], step: int | None, loss: float | None
    ) -> None:
        record = _with_checkpoints(self._store.load(self._hold.run_id), paths, doubtful)
        self._store.amend(
            self._hold,
            checkpoints=record.checkpoints,
            last_checkpoint=record.last_checkpoint,
            last_step=record.last_step if step is None else step,
            last_loss=record.last_loss if loss is None else loss,
        )


def _with_checkpoints(record: RunRecord, paths: Sequence[str], doubtful: Sequence[str]) -> RunRecord:
    for path in paths:
        record = with_checkpoint(record, path)
    for path in reversed(doubtful):  # each goes to the front: the newest of them behind the others
        record = with_doubtful_checkpoint(record, path)
    return record
