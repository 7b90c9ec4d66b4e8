"""A time box around a training loop that has never heard of boxes: it opens when training is about to begin.

There is no block that could be left, so at the deadline the process ends instead; and nobody to raise errors to, so what
goes wrong in here is said in one line and leaves the script alone. One thing does end the script: a resume whose checkpoint
does not fit what the script trains, because to train on from nothing would be the wrong answer to `backprop resume`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from enum import Enum

from backprop_core.clock import SYSTEM, Clock
from backprop_core.errors import BackpropError, CheckpointError, StateMismatchError, UnkeptStateError
from backprop_core.loop.loop_state import LoopState
from backprop_core.loop.loops import LeaveBox, Loops
from backprop_core.loop.resume_loop import LoopRestorer
from backprop_core.loop.resume_report import not_restored_whole
from backprop_core.loop.watched_loop import RawLoopListener
from backprop_core.outcome import Outcome
from backprop_core.own_line import print_line
from backprop_core.ports.framework import Framework, frameworks_in_use, ranks_among, ranks_stay_away
from backprop_core.session import attach_rules
from backprop_core.session.boxed_training import how_it_ended, how_it_was_left
from backprop_core.session.child_process import error_that_ends_process, when_process_ends
from backprop_core.session.join_run import NotJoinedError
from backprop_core.session.leave_process import leave_process
from backprop_core.session.ranks import session_among
from backprop_core.session.ranks_error import LostRankError, RankError, described
from backprop_core.session.session import Session
from backprop_core.session.settings import attached_settings


class _Stage(Enum):
    WAITING = "waiting"
    OPEN = "open"
    ASIDE = "aside"
    OVER = "over"


class AttachedBox:
    """Waits for a training, opens a session for it, and ends it with the process. Implements `LoopListener`."""

    def __init__(self, framework_name: str, clock: Clock = SYSTEM) -> None:
        self._name = framework_name
        self._clock = clock
        self.loop_state = LoopState(frameworks_in_use())
        self.loop_state.found = True
        self._hooks = ExitStack()
        self._said_later: list[Exception | str] = []
        self._stage = _Stage.WAITING
        self._is_set_up = False
        self._owner = os.getpid()

    def watch(self, framework: Framework, is_near: Callable[[], bool], is_ours: Callable[[], bool]) -> None:
        """Watch the loops of `framework` from now on.

        Args:
            is_near: whether a pass over a loader that begins now may be one that trains: then the session opens.
            is_ours: whether the training that begins now is a plain loop, and not another adapter's.
        """
        self._is_near, self._is_ours = is_near, is_ours
        if attach_rules.a_session_was_opened():
            return
        raw = framework.raw_loop(self, self.loop_state, None)
        if raw is None:
            return
        self.loop_state.raw = raw
        self._hooks.enter_context(framework.watch_steps(self.loop_state.optimizer_stepped))
        self._hooks.enter_context(raw.watch())
        self._hooks.enter_context(self.loop_state.kept.released_when_collected())
        attach_rules.stand_by(self._step_aside)

    def forked(self) -> bool:
        """This process is a fork of one that waits for a training, and waits in its place. False: that one has trained."""
        if self._stage is not _Stage.WAITING:
            return False
        self._owner = os.getpid()
        if self.loop_state.raw is not None:
            self.loop_state.raw.forked()
        return True

    # -- what the watched loop tells ---------------------------------------------------------------------------

    def pass_begins(self) -> None:
        """A pass over a loader begins: state that exists already is given back before its first batch."""
        if self._stage is _Stage.OPEN:
            self._guarded(self._listener.pass_begins)
        if self._stage is _Stage.WAITING and self._is_near():
            self._open()
            if not self._is_open():
                self._hooks.close()

    def first_step(self) -> None:
        """Just before the first optimizer step."""
        if self._stage is _Stage.WAITING:
            self._open()
        if self._stage is _Stage.OPEN:
            self._guarded(self._listener.first_step)

    def training_begins(self, number: int) -> None:
        """Just before the first step of a further training."""
        if self._stage is _Stage.OPEN:
            self._guarded(lambda: self._listener.training_begins(number))

    def objects_joined(self) -> None:
        """Just before the first step of an optimizer that joins the others."""
        if self._stage is _Stage.OPEN:
            self._listener.objects_joined()

    def place_lost(self) -> None:
        """The pass that was to go on could not be found in time."""
        if self._stage is _Stage.OPEN:
            self._listener.place_lost()

    def not_exact(self, caveat: str) -> None:
        """Something of the resumed pass cannot come back."""
        if self._stage is _Stage.OPEN:
            self._listener.not_exact(caveat)

    def cannot_follow(self, why: Exception | str, *, entirely: bool) -> None:
        """Something unforeseen went wrong in the watching; the script goes on."""
        if entirely:
            error = why if isinstance(why, Exception) else RuntimeError(why)
            self._say_what_failed(error)
            if self._stage is _Stage.WAITING:
                ranks_stay_away(self.loop_state.frameworks, described(error))
            self._step_aside(described(error))
        elif self._stage is _Stage.OPEN:
            self._listener.cannot_follow(why, entirely=False)
        elif self._stage is _Stage.WAITING:
            self._said_later.append(why)

    def at_boundary(self, *, epoch_end: bool) -> None:
        """Between two steps; ends the process when its time is over."""
        if self._stage is _Stage.OPEN:
            self._guarded(lambda: self._listener.at_boundary(epoch_end=epoch_end))

    def inside_step(self, *, lowest: bool, seldom: bool) -> None:
        """Inside of a step that evaluates its closure many times; ends the process when its time is over."""
        if self._stage is _Stage.OPEN:
            self._guarded(lambda: self._listener.inside_step(lowest=lowest, seldom=seldom))

    def must_leave(self) -> bool:
        """Whether time forces the script out of an evaluation."""
        return self._stage is _Stage.OPEN and self._listener.must_leave()

    # -- from beginning to end -----------------------------------------------------------------------------------

    def _open(self) -> None:
        self._stage = _Stage.ASIDE
        if not self._is_ours():
            return
        attach_rules.stand_by(lambda: None)
        try:
            ranks = ranks_among(self.loop_state.frameworks)
            self.session: Session = session_among(
                ranks, attached_settings(self._name), self.loop_state, self._clock
            )
            self.session.open()
        except NotJoinedError:
            return
        except Exception as error:
            self._say_what_failed(error)
            ranks_stay_away(self.loop_state.frameworks, described(error))
            return
        self._stage = _Stage.OPEN
        self._stay = when_process_ends(self._process_ends)
        attach_rules.stand_by(self._step_aside)
        self._guarded(self._set_up)

    def _is_open(self) -> bool:
        return self._stage is _Stage.OPEN

    def _set_up(self) -> None:
        self._restorer = LoopRestorer(self.session, self.loop_state)
        self._loops = Loops(self.session, self.loop_state, self._restorer, self._clock)
        self._listener = RawLoopListener(self._loops, self._restorer, self._clock)
        for why in self._said_later:
            self._listener.cannot_follow(why, entirely=False)
        self.loop_state.script.look()
        self.session.together(self._restore)
        self._is_set_up = True
        if self.session.restored is None:
            self.session.boundary(0)

    def _restore(self) -> None:
        try:
            self._restorer.restore()
        except BackpropError:
            raise
        except Exception as error:
            raise not_restored_whole(self.session.resumed_from, error) from error
        self.session.weigh()

    def _guarded(self, what: Callable[[], None]) -> None:
        try:
            what()
        except LeaveBox:
            self._close(how_it_was_left(self.session), "")
            leave_process()
        except (StateMismatchError, UnkeptStateError) as error:
            self._close(Outcome.FAILED, str(error))
            print_line(str(error))
            raise SystemExit(1) from None
        except Exception as error:
            self._say_what_failed(error)
            self._step_aside(described(error))

    def _say_what_failed(self, error: Exception) -> None:
        if self._is_set_up:
            self.session.say_why_aside(error, self._name)
        elif not isinstance(error, RankError) or isinstance(error, LostRankError):
            attach_rules.give_up(self._name, error)

    def _step_aside(self, why: str = "") -> None:
        """Leave the script to itself, or to another session of ours."""
        was, self._stage = self._stage, _Stage.ASIDE
        if was is _Stage.OPEN:
            with suppress(Exception):
                self.session.withdraw(why)
            self._stay()
        elif was is _Stage.WAITING:
            self._hooks.close()

    def _process_ends(self) -> None:
        """The script has come to its end, or to an error that nobody caught."""
        if self._stage is not _Stage.OPEN or os.getpid() != self._owner:
            return
        error = error_that_ends_process()
        with suppress(CheckpointError):
            if error is None:
                self._loops.count_last_step()
            self._close(*how_it_ended(error))

    def _close(self, outcome: Outcome, reason: str) -> None:
        self._stage = _Stage.OVER
        self._stay()
        self.session.close(outcome, reason)
        self.loop_state.release()
