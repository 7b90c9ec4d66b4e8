"""The guard: near the deadline it keeps a copy of the last boundary, and commits it when the running step takes too long.

No forecast sees a step that suddenly takes twenty times as long, or never ends. A thread waits for the instant after which
a save would no longer fit. If the main thread has not come to a boundary by then, the copy of the last one is committed:
that step is lost and nothing else. Under a governor the process then ends in time, whatever the main thread does; without
one the loop is left as soon as the step returns. A C loop that never lets go of the interpreter lock stops this thread as
well; then the governor ends the process and the last periodic checkpoint is what there is.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backprop_core.budget import duration_text
from backprop_core.checkpoints.codec import Snapshot
from backprop_core.checkpoints.manifest import CheckpointFacts
from backprop_core.decision import Facts
from backprop_core.errors import CheckpointError
from backprop_core.outcome import Outcome, SaveReason

if TYPE_CHECKING:
    from backprop_core.session import Session

COPY_SHARE = 0.01
"""Of the attempt's time, at most this part goes into copies."""
ZONE_S = 30.0
ZONE_STEPS = 20.0
"""The end zone begins this many steps, and at least this many seconds, before the last instant for a save."""
LAST_S = 0.05
"""Under a governor the process ends this long before the deadline, come what may."""


@dataclass(slots=True)
class CopyAllowance:
    """Pure: which boundaries may copy the state, so that all copies stay under 1% of the attempt's time.

    Attributes:
        spent_s: seconds copying has taken.
    """

    spent_s: float = 0.0

    def in_zone(self, facts: Facts) -> bool:
        """Whether the deadline is near enough for copies."""
        zone_s = max(ZONE_S, ZONE_STEPS * facts.gap_s)
        return facts.remaining_s <= zone_s + facts.save_s + facts.exit_s

    def allows(self, elapsed_s: float, copy_s: float) -> bool:
        """Whether a copy of `copy_s` seconds may be made after `elapsed_s` seconds of the attempt."""
        return self.spent_s + copy_s <= COPY_SHARE * elapsed_s


class Guard:
    """Watches one session from a thread of its own.

    Attributes:
        committed: the guard has committed a copy; training after it is lost.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.clock
        self._allowance = CopyAllowance()
        self._began = session.clock.monotonic()
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._ended = False
        self._at_work_by_main = False
        self._trigger_at: float | None = None
        self._copy: tuple[Snapshot, CheckpointFacts] | None = None
        self._thread: threading.Thread | None = None
        self.committed = False

    # -- called by the main thread -----------------------------------------------------------------------------

    def at_boundary(self, facts: Facts) -> None:
        """Copy the state if the deadline is near and the allowance permits, and set the alarm."""
        now = self._clock.monotonic()
        if not self._allowance.in_zone(facts):
            return
        saver = self._session.saver
        fresh = False
        if not saver.busy and self._allowance.allows(now - self._began, saver.copy_s):
            with self._lock, contextlib.suppress(CheckpointError):
                snapshot = saver.copied(self._session.trainee.states())
                self._copy = (snapshot, self._session.checkpoint_facts(SaveReason.DEADLINE))
                self._allowance.spent_s += saver.copy_s
                fresh = True
        self._trigger_at = now + facts.remaining_s - facts.save_s - facts.exit_s
        if fresh or self._thread is None:
            self._start()

    def stand_down(self) -> None:
        """The main thread is at a boundary and takes over; waits for a commit that is under way."""
        with self._lock:
            self._at_work_by_main = True

    def stop(self) -> None:
        """End the thread."""
        self._ended = True
        self._changed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # -- the thread --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="backprop-guard", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while not self._ended and not self._at_work_by_main and not self.committed:
            at = self._trigger_at
            left = 1.0 if at is None else at - self._clock.monotonic()
            if left <= 0:
                with self._lock:
                    if not self._at_work_by_main and (self._trigger_at or 0) <= self._clock.monotonic():
                        self._commit()
                continue
            self._clock.wait(self._changed, min(left, 1.0))
        self._see_the_process_out()

    def _commit(self) -> None:
        session = self._session
        self.committed = True
        stacks = self._write_stacks()
        session.teller.say(
            f"The running step threatens the deadline, so the state from before it is saved now. "
            f"What every thread is doing is in {stacks}.",
            "warning",
        )
        if self._copy is not None:
            snapshot, facts = self._copy
            newest = session.saver.newest
            if newest is None or newest.facts.step < facts.step:
                try:
                    session.saver.commit_copy(snapshot, facts)
                except CheckpointError as error:
                    session.teller.say(f"That save failed: {error}", "error")
        session.wake = 0.0

    def _write_stacks(self) -> Path:
        path = self._session.enrolment.attempt.directory / "stacks.txt"
        with contextlib.suppress(OSError), path.open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        return path

    def _see_the_process_out(self) -> None:
        """Under a governor the process is gone before the deadline, whatever the main thread does."""
        session = self._session
        if not session.enrolment.governed:
            return
        while not self._ended:
            left = session.deadlines.earliest.at - LAST_S - self._clock.monotonic()
            if left <= 0:
                self._end_process()
            self._clock.wait(self._changed, left)

    def _end_process(self) -> None:
        session = self._session
        newest = session.checkpoint
        session.teller.say(
            f"The step did not end in time, so the process ends now; {duration_text(LAST_S)} to the deadline.",
            "warning",
        )
        session.teller.event(
            "session_finished",
            outcome=Outcome.TIMEBOXED.value,
            reason="a step did not end in time",
            steps=session.steps,
            step=None if newest is None else newest.step,
            checkpoint=None if newest is None else str(newest.path),
            slack_s=LAST_S,
            measured=session.forecast.measured(),
        )
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(0)
