"""One training inside a time box: what is the same for every adapter, whoever runs the loop.

An adapter has its framework's hooks; this file has the way in, the one way out, and the facts that users read meanwhile.
"""

from __future__ import annotations

import atexit
import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from backprop_core.checkpoints.manifest import CheckpointInfo
from backprop_core.errors import StateMismatchError
from backprop_core.outcome import Outcome
from backprop_core.session import attach_rules
from backprop_core.session.join_run import NotJoinedError
from backprop_core.session.leave_process import leave_process
from backprop_core.session.session import Session

T = TypeVar("T")


def begun(begin: Callable[[], T], *, name: str, attached: bool, says: bool = True) -> T | None:
    """What `begin` returns; None where the script trains without us.

    Args:
        begin: opens the box. It leaves nothing behind where it fails.
        name: what trains, for the line that says why it could not be opened.
        attached: the script did not ask for the box, so it does not fail because of it.
        says: this process is one that talks.

    Raises:
        StateMismatchError: the checkpoint does not fit; to train on from nothing would be the wrong answer to a resume.
        Exception: any other, where the script asked for the box.
    """
    try:
        return begin()
    except NotJoinedError:  # another process of this run trains, and this one was not asked to be boxed
        return None
    except StateMismatchError:
        raise
    except Exception as error:
        if not attached:
            raise
        if says:
            attach_rules.give_up(name, error)
        return None


def how_it_ended(error: BaseException | None) -> tuple[Outcome, str]:
    """What a training is called that ended by itself, or by `error`, and the reason for the record."""
    if error is None:
        return Outcome.COMPLETED, ""
    if isinstance(error, KeyboardInterrupt):
        return Outcome.STOPPED, "interrupted by the keyboard"
    return Outcome.FAILED, f"{type(error).__name__}: {error}"


def how_it_was_left(session: Session) -> Outcome:
    """What a training is called that its session has ended; preempted where the loop was left before it was told why."""
    return Outcome.PREEMPTED if session.leaving is None else session.leaving.outcome


class BoxedTraining:
    """A session from the moment at which it opens to its one end.

    Args:
        give_back: puts back what the adapter has replaced; called once, before the session is closed.

    Attributes:
        session: the engine.
        closed: the box is over, or our part in it is.
    """

    def __init__(self, session: Session, give_back: Callable[[], None] = lambda: None) -> None:
        self.session = session
        self.closed = False
        self._give_back = give_back

    def open(self) -> None:
        """Find the run, the deadline and the checkpoint to go on from.

        Raises:
            UsageError, StoreError: as `Session.open`; nothing was begun.
        """
        self.session.open()
        atexit.register(self._forgotten)

    def left(self) -> None:
        """The training was left because the session said so, and everything is saved; nothing where we stepped aside.

        Raises:
            SystemExit: a governor waits for the process to end.
        """
        if self.closed:
            return
        self.close(how_it_was_left(self.session))
        if self.session.governed:
            leave_process()

    def ended(self, error: BaseException | None = None) -> None:
        """The training ended by itself, or by `error`."""
        self.close(*how_it_ended(error))

    def completed(self, steps: int = 0) -> None:
        """The training came to its end, `steps` behind the last boundary: its final state is saved."""
        if self._closes():
            self.session.complete(steps)

    def close(self, outcome: Outcome, reason: str = "") -> None:
        """End the attempt, once; later calls do nothing."""
        if self._closes():
            self.session.close(outcome, reason)

    def step_aside(self, error: Exception) -> None:
        """A fault of our own: the training goes on without a box, and that is said in one line."""
        if self._closes():
            self.session.step_aside(error)

    def _closes(self) -> bool:
        if self.closed:
            return False
        self.closed = True
        atexit.unregister(self._forgotten)
        self._give_back()
        return True

    def _forgotten(self) -> None:
        """The process ends and the framework never came back: the record gets its end all the same."""
        session = self.session
        self.close(Outcome.FAILED if session.leaving is None else how_it_was_left(session))


class Teller(Protocol):
    """Who knows the facts of a training: its session, or on other ranks whoever follows the first one's."""

    @property
    def outcome(self) -> Outcome: ...

    @property
    def checkpoint(self) -> CheckpointInfo | None: ...

    @property
    def run_id(self) -> str: ...

    @property
    def resumed_from(self) -> str | None: ...

    def remaining_s(self) -> float: ...

    def progress(self) -> float: ...

    def progress_at(
        self, step: int, name: str = "schedule", replay: str | None = None, owner: object = None
    ) -> float: ...


class BoxFacts:
    """Properties of `timebox` and every callback, readable before, during and after training.

    Before training begins there is no deadline and no run: `remaining` is infinite and `run_id` empty. Afterwards they
    describe the last training. If its box could not be opened, its outcome is "failed".
    """

    _unopened = False

    def _opens(self, begin: Callable[[], T]) -> T:
        """What `begin` returns, which opens the box."""
        self._unopened = True
        made = begin()
        self._unopened = False
        return made

    def _teller(self) -> Teller | None:
        """Who knows them; None before a training begins."""
        raise NotImplementedError

    @property
    def outcome(self) -> Outcome:
        """How the last training ended; "running" until it has."""
        teller = self._teller()
        if teller is None:
            return Outcome.FAILED if self._unopened else Outcome.RUNNING
        return teller.outcome

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the run's newest checkpoint, or None."""
        teller = self._teller()
        info = None if teller is None else teller.checkpoint
        return None if info is None else info.path

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, never negative; infinite before training begins."""
        teller = self._teller()
        return math.inf if teller is None else teller.remaining_s()

    @property
    def progress(self) -> float:
        """The share of the budget used so far, from 0 to 1, over all boxes of a `--total`; 0 before training begins.

        It reaches 1 when only the time reserved for the last save is left. No step is started after that.
        """
        teller = self._teller()
        return 0.0 if teller is None else teller.progress()

    def progress_at(
        self, step: int, name: str = "schedule", replay: str | None = None, owner: object = None
    ) -> float:
        """The progress at step `step` of a schedule. It is recorded in the run, and a run that replays it gets the same.

        Args:
            step: steps of the schedule so far, from 0.
            name: name of the schedule, if a training has several.
            replay: id of a run, or a file. Its recorded schedule is followed instead of the clock.
            owner: identifies the schedule; no other schedule may use its name.

        Raises:
            UsageError: `replay` holds no record, or the name is taken.
        """
        teller = self._teller()
        return 0.0 if teller is None else teller.progress_at(step, name, replay, owner)

    @property
    def run_id(self) -> str:
        """The id of the run; empty before training begins."""
        teller = self._teller()
        return "" if teller is None else teller.run_id

    @property
    def resumed_from(self) -> Path | None:
        """The checkpoint that training was resumed from, or None."""
        teller = self._teller()
        path = None if teller is None else teller.resumed_from
        return None if path is None else Path(path)
