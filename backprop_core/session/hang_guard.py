"""The guard: keeps a copy of the last boundary near the deadline, and commits it when the running step takes too long.

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
from collections.abc import Iterator, Mapping
from pathlib import Path

from backprop_core.checkpoints.codec import Snapshot
from backprop_core.checkpoints.manifest import CheckpointFacts
from backprop_core.deadline.pacing import GOVERNED_END_S
from backprop_core.errors import CheckpointError
from backprop_core.outcome import Outcome
from backprop_core.session.attempt import RunningAttempt
from backprop_core.session.report_lines import Reporter
from backprop_core.session.saver import Saver

TURN_S = 0.0002
"""How long the running step may keep the interpreter while the guard saves."""
LISTEN_S = 1.0
"""How often the thread looks whether a signal has come that no boundary has dealt with."""
_STEP, _SAVE = "a step", "the last save"
"""What may not finish in time."""


@contextlib.contextmanager
def _taking_turns_quickly() -> Iterator[None]:
    """A step that computes in Python lets go of the interpreter every 5 ms only; a save asks for it a hundred times."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)


class Guard:
    """Watches one session from a thread of its own, which sleeps until the alarm.

    Attributes:
        committed: the guard has dealt with the step that runs since the last boundary: if there was a copy of it, that is
            on disk. False again when a boundary arms it anew.
        saved_copy: there was a copy, and it is on disk.
    """

    def __init__(self, session: RunningAttempt, reporter: Reporter) -> None:
        self._session, self._reporter = session, reporter
        self._clock = session.clock
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._alarm_at = float("inf")
        self._ended = False
        self._copy: tuple[Snapshot, CheckpointFacts] | None = None
        self._thread: threading.Thread | None = None
        self.committed = self.saved_copy = False
        self._late = _STEP

    # -- called by the main thread -----------------------------------------------------------------------------

    def keep(
        self, saver: Saver, states: Mapping[str, object], facts: CheckpointFacts, *, whole: bool = True
    ) -> None:
        """Copy `states` into the reused buffers, in place of the copy before.

        Args:
            whole: all of it; else not those large arrays that show no change since a copy before.

        Raises:
            UnsavableStateError: a value that cannot be stored.
        """
        with self._lock:
            self._copy = None
            self._copy = (saver.copied(states, facts, keep=not whole), facts)

    def give_up_copy(self) -> None:
        """The reused buffers are wanted for a periodic save."""
        with self._lock:
            self._copy = None

    def arm(self, alarm_at: float) -> None:
        """A boundary has been passed; the next must come before `alarm_at` on the monotonic clock."""
        self.committed = self.saved_copy = False
        self._late = _STEP
        sooner = alarm_at < self._alarm_at
        self._alarm_at = alarm_at
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="backprop-guard", daemon=True)
            self._thread.start()
        elif sooner:  # asleep until a later instant
            self._changed.set()

    def let_finish(self) -> None:
        """Wait for a commit that is under way: its cost is news for the decision."""
        with self._lock:
            pass

    def stand_down(self) -> None:
        """The main thread is at a boundary and takes over; waits for a commit that is under way."""
        with self._lock:
            self._alarm_at = float("inf")
            self._late = _SAVE

    def stop(self) -> None:
        """End the thread."""
        self._ended = True
        self._changed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # -- the thread --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._ended:
            now = self._clock.monotonic()
            last_at, alarm_at = self._due(now)
            if now >= last_at:
                self._end_process()
            if now >= alarm_at:
                with _taking_turns_quickly():
                    self._sound()
                continue
            wake_at = min(last_at, alarm_at, now + LISTEN_S)
            self._changed.clear()
            self._clock.wait(self._changed, wake_at - now)

    def _due(self, now: float) -> tuple[float, float]:
        """The instants at which the process must end, and at which the running step has taken too long."""
        last_at, alarm_at = self._planned()
        if now < min(last_at, alarm_at):
            return last_at, alarm_at
        # In this order: what the main thread applies in between is then in the deadline. The other order would miss it.
        waived_s = self._waived_s(now)
        last_at, alarm_at = self._planned()
        return last_at + waived_s, alarm_at + waived_s

    def _planned(self) -> tuple[float, float]:
        governed = self._session.enrolment.governed
        last_at = self._session.deadlines.earliest.at - GOVERNED_END_S if governed else float("inf")
        alarm_at = float("inf") if self.committed else self._alarm_at
        asked_at = self._session.requests.gone_by()  # a signal in the middle of a long gap
        if asked_at != float("inf"):
            pacer = self._session.pacer
            last_at = min(last_at, asked_at - GOVERNED_END_S) if governed else last_at
            alarm_at = min(alarm_at, asked_at - pacer.save_s() - pacer.exit_s())
            self._alarm_at = alarm_at if not self.committed else self._alarm_at
        return last_at, alarm_at

    def _waived_s(self, now: float) -> float:
        """Seconds by which the deadline is about to move: the run is paused, or was asleep."""
        session = self._session
        return 0.0 if session.deadlines.earliest.fixed else session.requests.unapplied_s(now)

    def _sound(self) -> None:
        with self._lock:
            if self._ended or self._clock.monotonic() < self._alarm_at:
                return  # the main thread came to a boundary meanwhile
            session, copy = self._session, self._copy
            stacks = self._write_stacks()
            saved = "there is no copy of an earlier step, so only the last checkpoint is left"
            if copy is not None:
                step, newest = copy[1].step, session.saver.newest
                if newest is not None and newest.facts.step >= step:
                    saved = f"step {newest.facts.step} is saved already"
                else:
                    saved = f"the copy of step {step} is being saved"
                    try:
                        session.saver.commit_copy(*copy)
                        self.saved_copy = True
                    except CheckpointError as error:
                        saved = f"saving the copy of step {step} failed: {str(error).rstrip('.')}"
                        session.pacer.failed(self._clock.monotonic())
            elif session.copies_are_saves and (survivor := session.saver.survivor) and survivor.newest:
                saved = "the newest step that all processes have in memory is saved when they have ended"
            self.committed = True
            session.wake = 0.0
        session.messages.say(
            f"The running step takes longer than the deadline allows; {saved}. The stack of every thread is in {stacks}.",
            "warning",
        )

    def _write_stacks(self) -> Path:
        path = self._session.enrolment.attempt.directory / "stacks.txt"
        with contextlib.suppress(OSError), path.open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        return path

    def _end_process(self) -> None:
        """Under a governor the process is gone before the deadline, whatever the main thread does."""
        session = self._session
        with contextlib.suppress(
            Exception
        ):  # what was committed since the last boundary, and nobody has heard of yet
            session.saver.finished()
        newest = session.checkpoint
        ended = self._reporter.ended(
            Outcome.TIMEBOXED,
            f"{self._late} did not finish in time, so the process was ended",
            steps=session.steps,
            step=None if newest is None else newest.step,
        )
        session.messages.event(ended)
        kept = f"the last checkpoint is{self._reporter.age(newest)}" if newest else "there is no checkpoint"
        session.messages.say(
            f"{self._late.capitalize()} did not finish in time, so the process exits now; {kept}.", "warning"
        )
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(0)
