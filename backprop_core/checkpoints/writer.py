"""The one background thread that commits snapshots while training goes on."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from backprop_core.clock import Clock
from backprop_core.errors import CheckpointError, CheckpointWriteError

from .codec import Snapshot
from .manifest import CheckpointFacts, CheckpointInfo


class Commits(Protocol):
    """A store, as far as the writer needs one."""

    def commit(self, snapshot: Snapshot, facts: CheckpointFacts) -> CheckpointInfo: ...


class Writer:
    """Commits one snapshot at a time in a thread of its own.

    The snapshot must be over memory that nothing else writes to until the commit is done: see
    `Snapshot.staged`. `submit`, `poll`, `join` and `close` are for one thread, the one that trains.
    """

    def __init__(self, store: Commits, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._work: deque[tuple[Snapshot, CheckpointFacts]] = deque()
        self._done: deque[CheckpointInfo | CheckpointError] = deque()
        self._changed = threading.Condition()
        self._idle = threading.Event()
        self._idle.set()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a commit is in flight."""
        return not self._idle.is_set()

    def submit(self, snapshot: Snapshot, facts: CheckpointFacts) -> bool:
        """Commit `snapshot` in the background. False, and nothing done, when one is still in flight."""
        if self.busy or self._closed:
            return False
        self._idle.clear()
        with self._changed:
            self._work.append((snapshot, facts))
            self._changed.notify()
        if self._thread is None or not self._thread.is_alive():
            # A daemon: an interpreter that is told to end does not wait for it. Whoever wants the save joins.
            self._thread = threading.Thread(target=self._run, name="backprop-writer", daemon=True)
            self._thread.start()
        return True

    def poll(self) -> list[CheckpointInfo | CheckpointError]:
        """What has finished since the last call: a checkpoint, or the error that kept it from being one."""
        finished: list[CheckpointInfo | CheckpointError] = []
        while self._done:
            finished.append(self._done.popleft())
        return finished

    def join(self, timeout_s: float | None) -> bool:
        """Wait until nothing is in flight, at most `timeout_s` seconds; False if something still is."""
        if timeout_s is None:
            return self._idle.wait()
        return self._clock.wait(self._idle, timeout_s)

    def close(self) -> None:
        """Take no more work, and end the thread once the commit in flight is done. Does not wait."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work or self._closed)
                if not self._work:
                    return
                snapshot, facts = self._work.popleft()
            self._done.append(self._commit(snapshot, facts))
            del snapshot, facts  # not held until the next one comes
            self._idle.set()

    def _commit(self, snapshot: Snapshot, facts: CheckpointFacts) -> CheckpointInfo | CheckpointError:
        try:
            return self._store.commit(snapshot, facts)
        except CheckpointError as error:
            return error
        except BaseException as error:  # a thread that dies silently would look like a save that never ends
            failure = CheckpointWriteError(
                f"The checkpoint of step {facts.step} was not saved: {type(error).__name__}: {error}."
            )
            failure.__cause__ = error
            return failure
