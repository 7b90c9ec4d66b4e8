"""The session of a script whose loops are counted: it opens, steps aside on a fault, and closes once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from typing import Any

from backprop_core import contract
from backprop_core.clock import SYSTEM, Clock
from backprop_core.earlier_attempt import may_go_back
from backprop_core.errors import BackpropError, StateMismatchError, UnkeptStateError
from backprop_core.loop.counted_loops import CountedLoops
from backprop_core.loop.resume_report import not_restored_whole
from backprop_core.loop.running_loop import RunningLoop
from backprop_core.loop.script_loop_state import ScriptLoopState, is_of_counted_loops
from backprop_core.loop.script_resume import not_found_again
from backprop_core.outcome import Outcome
from backprop_core.own_line import print_line
from backprop_core.ports.framework import frameworks_in_use, ranks_among, ranks_stay_away
from backprop_core.script_files import start as script_files
from backprop_core.script_state.unseen_models import unseen_models
from backprop_core.session import attach_rules
from backprop_core.session.boxed_training import how_it_ended, how_it_was_left
from backprop_core.session.child_process import error_that_ends_process, when_process_ends
from backprop_core.session.find_checkpoint import newest_facts
from backprop_core.session.join_run import NotJoinedError
from backprop_core.session.leave_process import leave_process
from backprop_core.session.ranks import session_among
from backprop_core.session.ranks_error import LostRankError, RankError, described
from backprop_core.session.session import Session
from backprop_core.session.settings import SessionSettings, attached_settings

_MOST_HIDDEN = 3
"""Files that are named; of more the number."""


class NoSession:
    """Stands for a session until there is one. Its `wake` may be set: then the loops tell their boundaries."""

    def __init__(self) -> None:
        self.wake = float("inf")


class ScriptSession:
    """From the first step of a script to its end.

    Attributes:
        alarm: the session, or what stands for it; see `counted_training.CountedTraining`.
        loop_state: what the script's checkpoints hold; None until a loop that trains begins.
        session: None before it opens, and behind its end.
    """

    def __init__(self, loops: CountedLoops, clock: Clock = SYSTEM) -> None:
        self.alarm: Any = NoSession()
        self.loops = loops
        self.loop_state: ScriptLoopState | None = None
        self.session: Session | None = None
        self._clock = clock
        self._hooks = ExitStack()
        self._owner = os.getpid()
        self._among_ranks = False
        self._early_fault = ""
        self._is_led_back = False
        self._stay: Callable[[], None] = lambda: None

    # -- what is another in a cell of a notebook -------------------------------------------------------------------

    def may_begin(self) -> bool:
        """Whether the loop that is about to begin is this training's."""
        # The package that only users import: a box of theirs may tell its boundaries itself.
        own_box = "backprop" in sys.modules and not attach_rules.boxes_surround()
        return not (own_box or attach_rules.a_session_was_opened() or not attach_rules.wants_this_loop())

    def may_resume(self) -> bool:
        """Whether there may be something to go back to, so that a session is opened before the first step.

        A loop that takes no step may come before the training of a Trainer, whose checkpoint is not for it.
        """
        if not may_go_back() or os.environ.get(contract.SCRIPT_RESUMES):
            return False
        facts = None if self._among_ranks else newest_facts(self.settings_for(""), self._clock)
        return facts is None or facts.cursor is None or is_of_counted_loops(facts.cursor)

    def settings_for(self, label: str) -> SessionSettings:
        """Those of the session that opens."""
        return attached_settings(label)

    def when_over(self) -> Callable[[], None]:
        """Have the end of the script noticed; what is returned takes that back."""
        return when_process_ends(self._process_ends)

    def go_away(self) -> None:
        """Leave the script: everything is saved."""
        leave_process()

    def refuse(self, error: BackpropError) -> None:
        """End the script with a sentence: it would go on wrongly."""
        print_line(str(error))
        raise SystemExit(1) from None

    # -- it opens -------------------------------------------------------------------------------------------------

    def _open_for_variables(self, loop: RunningLoop, frame: FrameType) -> None:
        """Nobody tells of steps, so what trains is what the script's variables hold: unless that cannot be saved."""
        loop_state = self.loop_state
        assert loop_state is not None
        loop_state.at(loop, frame)
        unseen = unseen_models(loop_state.namespaces())
        if unseen and not self.loops.going_back:
            attach_rules.cannot_be_saved([one.name for one in unseen], unseen[0].type)
            self._step_aside()
            return
        self._open(frame)

    def _open(self, frame: FrameType) -> None:
        loop_state = self.loop_state
        assert loop_state is not None
        if not self._among_ranks and any(one.knows_ranks() for one in loop_state.frameworks):
            self._hand_over()  # they were launched when a loop was under way here, which the others did not begin
            return
        attach_rules.stand_by(lambda: None)
        loop_state.at(self.loops.stack[-1] if self.loops.stack else None, frame)
        try:
            ranks = ranks_among(loop_state.frameworks)
            self.session = session_among(
                ranks, self.settings_for(loop_state.label()), loop_state, self._clock
            )
            self.session.open()
        except (NotJoinedError, RankError) as error:
            self.session = None
            if isinstance(error, LostRankError):
                attach_rules.give_up("the script's loops", error)
            self._step_aside()
            return
        except BaseException:
            self.session = None
            raise
        self._stay = self.when_over()
        attach_rules.stand_by(self._step_aside)
        self._set_up(self.session, loop_state, frame)

    def _tell_of_early_fault(self) -> None:
        if self._early_fault:
            raise RankError(self._early_fault)

    def _set_up(self, session: Session, loop_state: ScriptLoopState, frame: FrameType) -> None:
        session.together(self._tell_of_early_fault)
        if session.restored is not None:
            if not loop_state.go_back(session.restored.states):
                session.withdraw()
                self._step_aside()
                attach_rules.loops_are_counted(yes=False)
                return
            loop_state.ahead.expect(session.restored.states)
            self._say_hidden(session, loop_state.hidden_files)
            if other := loop_state.of_other_ranks(
                session.restored.states, f"Checkpoint {session.resumed_from}"
            ):
                session.messages.say_once(other, "warning")
        else:
            if loop_state.files is not None:
                loop_state.files.starts_anew()
            self._say_found(loop_state.find(frame))
            session.together(session.weigh)
            session.boundary(0)
        self._is_led_back = session.restored is not None
        self.alarm = session

    def _say_found(self, fresh: str) -> None:
        if fresh and self.session is not None:
            self.session.messages.say(fresh)

    @staticmethod
    def _say_hidden(session: Session, names: Sequence[str]) -> None:
        if names:
            more = f" and {len(names) - _MOST_HIDDEN} more" if len(names) > _MOST_HIDDEN else ""
            session.messages.say(
                f"Hidden until now, so that the script does not restore itself as well: {', '.join(names[:_MOST_HIDDEN])}"
                f"{more}. --keep-files leaves files as they are."
            )

    # -- it cannot go on ------------------------------------------------------------------------------------------

    def lost(self, key: str) -> None:
        """The loop that was to go on did not begin."""
        self._guarded(lambda: self._mismatch(key))

    def _mismatch(self, key: str) -> None:
        raise not_found_again(key, self.session, self.loops)

    def _guarded(self, what: Callable[[], None]) -> None:
        try:
            what()
        except (StateMismatchError, UnkeptStateError) as error:
            self._close(Outcome.FAILED, str(error))
            self.refuse(error)
        except RankError as error:
            if self.session is not None:
                self.session.say_why_aside(error, "the script's loops")
            self._step_aside()
        except Exception as error:
            if self._is_led_back and self.session is not None:
                refusal = not_restored_whole(self.session.resumed_from, error)
                self._close(Outcome.FAILED, str(refusal))
                self.refuse(refusal)
            self._fails(error)

    def _fails(self, error: Exception) -> None:
        """A fault of our own: said once, and the script goes on without us; so do other ranks, as soon as they hear it."""
        session = self.session
        if not self._early_fault:
            if session is not None and session.steps:
                attach_rules.stepped_aside("the script's loops", error, governed=session.governed)
            else:
                attach_rules.give_up("the script's loops", error)
        if self._among_ranks and session is None and self.loop_state is not None:
            self._early_fault = described(error)  # the others are told when all of them open their sessions
            return
        if session is None:
            ranks_stay_away(frameworks_in_use(), described(error))
        self._step_aside(described(error))

    def _step_aside(self, why: str = "") -> None:
        """Leave the script to itself, or to another session of ours."""
        session, self.session = self.session, None
        self.loops.training = None
        self.alarm = NoSession()
        if session is not None:
            with suppress(Exception):
                session.withdraw(why)
            self._stay()
        if (files := script_files.current()) is not None:
            files.starts_anew()
        if self.loop_state is not None:
            self.loop_state.ahead.release()
        self._hooks.close()

    def _hand_over(self) -> None:
        """A step was taken outside all loops that are counted: those of a package. They are watched from outside."""
        self._step_aside()
        attach_rules.loops_are_counted(yes=False)

    # -- it ends --------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        session = self.session
        assert session is not None
        self._close(how_it_was_left(session), "")
        self.go_away()

    def _process_ends(self) -> None:
        if self.session is None or os.getpid() != self._owner:
            return
        error = error_that_ends_process()
        if error is None and self.loops.going_back:
            with suppress(SystemExit):
                self.lost(self.loops.awaited)
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            os._exit(1)
        with suppress(Exception):
            self._close_after(error)

    def _close_after(self, error: BaseException | None) -> None:
        """Close the session of a script, or a cell, that has come to its end, or was ended by `error`."""
        if error is None:
            self.loops.steps += self.loops.stepped
            if self.loop_state is not None:
                self.loop_state.at(None, None)
        self._close(*how_it_ended(error))

    def _close(self, outcome: Outcome, reason: str) -> None:
        session, self.session = self.session, None
        self.loops.training = None
        self._stay()
        if (files := script_files.current()) is not None:
            with suppress(OSError):
                files.goes_back()  # where the place was not found
        if session is not None:
            session.close(outcome, reason)
        if self.loop_state is not None:
            self.loop_state.release()
