"""The training of a rewritten script: opens a session when it trains, comes to boundaries between iterations, goes back.

Between two iterations of a counted loop everything is known: which loops run and how far, and all that the script's
variables hold. So any such place can be left and found again. Steps are boundaries at once; elsewhere, in an evaluation,
say, only the deadline makes one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from itertools import islice
from types import FrameType
from typing import Any

from backprop_core import contract
from backprop_core.clock import SYSTEM, Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.earlier_attempt import may_go_back
from backprop_core.errors import BackpropError, StateMismatchError, UnkeptStateError
from backprop_core.loop.counted_loops import CountedLoops, EndedLoop, RunningLoop, SavedLoop
from backprop_core.loop.loop_readings import LoopReadings
from backprop_core.loop.script_frames import has_an_adapter
from backprop_core.loop.script_loop_state import ScriptLoopState
from backprop_core.loop.script_steps import LongSteps
from backprop_core.loop.sources import items_behind, length_of
from backprop_core.loop.watched_loop import INSIDE_A_STEP
from backprop_core.outcome import Outcome
from backprop_core.ports.framework import frameworks_in_use, ranks_among
from backprop_core.script_files import start as script_files
from backprop_core.script_state.rewrite import Site
from backprop_core.session import attach_rules
from backprop_core.session.child_process import error_that_ends_process, when_process_ends
from backprop_core.session.join_run import NotJoinedError
from backprop_core.session.leave_process import leave_process
from backprop_core.session.proof import noted, recorder_of
from backprop_core.session.ranks import described, session_among
from backprop_core.session.ranks_error import RankError
from backprop_core.session.session import Session
from backprop_core.session.settings import SessionSettings, attached_settings

_UPDATES_FOR_S = 1.0
"""A loop of which nobody knows whether it trains has run so long before a session opens for it."""
_ENTRY_SHARE = 0.01
"""Of an iteration's time, at most this part goes into remembering how it began."""


class _Alarm:
    """Stands for a session until there is one."""

    def __init__(self) -> None:
        self.wake = float("inf")


class ScriptTraining:
    """What the counted loops tell, turned into a session's boundaries. Implements `counted_loops.Training`."""

    def __init__(self, loops: CountedLoops, clock: Clock = SYSTEM) -> None:
        self.alarm: Any = _Alarm()
        self.loops = loops
        self.loop_state: ScriptLoopState | None = None
        self.session: Session | None = None
        self._clock = clock
        self._hooks = ExitStack()
        self._owner = os.getpid()
        self._told = 0
        self._entry_s = 0.0
        self._look_s = self._looked_at = 0.0
        self._proves = recorder_of() is not None  # then every step is a boundary, whatever it costs
        self._steps = LongSteps(loops, clock)
        self._among_ranks = attach_rules.is_one_of_several()
        self._gave_notice = False
        self._early_fault: Exception | None = None
        self._stay: Callable[[], None] = lambda: None

    # -- what the loops tell -----------------------------------------------------------------------------------

    def loop_is_met(self, site: Site, frame: FrameType) -> None:
        if self.loop_state is None and site.trains:
            self._guarded(lambda: self._begin(frame))

    def loop_opens(self, loop: RunningLoop, frame: FrameType) -> None:
        self._guarded(lambda: self._remember_opening(loop, frame))

    def _remember_opening(self, loop: RunningLoop, frame: FrameType) -> None:
        if self.loop_state is not None:
            loop.began = self._clock.monotonic()
            self.loop_state.loop_begins(loop)
            if loop.site.trains and self._look_s <= (loop.began - self._looked_at) * _ENTRY_SHARE:
                loop.there = self.loop_state.values(frame)
                self._looked_at = self._clock.monotonic()
                self._look_s = self._looked_at - loop.began

    def begun(self, loop: RunningLoop, source: Any) -> Iterable[Any]:
        items: list[Iterable[Any]] = [source]
        self._guarded(lambda: items.append(self._items_of(loop, source)))
        return noted(items[-1]) if loop.site.trains else items[-1]

    def _items_of(self, loop: RunningLoop, source: Any) -> Iterable[Any]:
        try:
            return self._begun_where_it_was(loop, source)
        except StateMismatchError:
            raise
        except Exception as error:
            if not loop.index:
                raise
            raise StateMismatchError(
                f"The loop at {loop.site.where} cannot begin where it was: {type(error).__name__}: {error}.",
                "Run the script as it was, or start a new run.",
            ) from error

    def _begun_where_it_was(self, loop: RunningLoop, source: Any) -> Iterable[Any]:
        if self.loop_state is None:
            return source  # type: ignore[no-any-return]
        loop.length = length_of(source)
        late = bool(loop.innermost and loop.saved and loop.index and self._must_make(loop.saved))
        readings = LoopReadings(loop, self.loop_state, self.loop_state.passes, self._say_missing, late=late)
        if late:
            loop.late = iter(items_behind(source, 0, readings))
            loop.index = 0
            return loop.late
        return items_behind(source, loop.index, readings)

    def _say_missing(self, missing: str) -> None:
        if self.session is not None:
            self.session.messages.say(missing, "warning")

    def _must_make(self, saved: SavedLoop) -> bool:
        """Whether objects that are to be restored are not there yet: the first iteration of the loop has made them."""
        session, loop_state = self.session, self.loop_state
        if session is None or loop_state is None or session.restored is None:
            return False
        loop_state.at(None, self.loops.opening_frame())
        return bool(loop_state.missing(session.restored.states))

    def entered(self, loop: RunningLoop, frame: FrameType) -> None:
        counts = loop.site.by_update or self.loops.iterations_are_steps
        if counts and self.session is None and loop is self.loops.stack[0]:
            self.alarm.wake = 0.0 if self._proves else self._clock.monotonic() + _UPDATES_FOR_S
        if loop.saved is None:
            return
        if loop.late is not None:
            return
        saved, loop.saved = loop.saved, None
        if loop.innermost:
            self._guarded(lambda: self._arrive(loop, frame))
        elif saved.entry is not None and self.loop_state is not None:
            loop.entry = saved.entry

    def entered_late(self, loop: RunningLoop, frame: FrameType) -> None:
        items, saved = loop.late, loop.saved
        loop.late = loop.saved = None
        if items is None or saved is None:
            return
        next(islice(items, saved.index - 2, saved.index - 1), None) if saved.index > 1 else None
        loop.index = saved.index
        self.loops.stepped = False
        self._guarded(lambda: self._arrive(loop, frame))

    def iteration_begins(self, loop: RunningLoop, frame: FrameType) -> None:
        self._guarded(lambda: self._begin_iteration(loop, frame))

    def _begin_iteration(self, loop: RunningLoop, frame: FrameType) -> None:
        loop_state, now = self.loop_state, self._clock.monotonic()
        if loop_state is None:
            return
        took_s, loop.since = now - loop.since if loop.since else None, now
        if self.loops.going_back and loop.entry is not None:
            loop_state.restore_entry(loop.entry, self._restored_states(), frame)
            return
        loop.entry = None
        # Ranks come to the same boundaries, so none of them may find its own iterations too short.
        always = self._proves or self._among_ranks
        if took_s is None or always or self._entry_s <= took_s * _ENTRY_SHARE:
            loop.entry = loop_state.entry(frame)
            self._entry_s = self._clock.monotonic() - now

    def _restored_states(self) -> Mapping[str, Any]:
        session = self.session
        return {} if session is None or session.restored is None else session.restored.states

    def passed_over(self, ended: EndedLoop, frame: FrameType) -> None:
        loop_state = self.loop_state
        if loop_state is not None:
            states = self._restored_states()
            self._guarded(lambda: loop_state.restore_effect(ended.effect, states, frame))

    def may_begin_in_a_child(self) -> bool:
        return self.session is None and not self.loops.stack

    def lost(self, key: str) -> None:
        self._guarded(lambda: self._mismatch(key))

    def _mismatch(self, key: str) -> None:
        session = self.session
        where = self.loops.sites[key].where if key in self.loops.sites else key.rpartition(":")[2]
        place = f"the loop at {where}, which does not begin any more"
        if not key:
            place = "an optimizer step that takes many evaluations, which is not taken any more"
        raise StateMismatchError(
            f"Checkpoint {None if session is None else session.resumed_from} was made inside {place}.",
            "Run the script as it was, or start a new run.",
        )

    def ended(self, loop: RunningLoop, frame: FrameType | None) -> Any:
        if self.loop_state is None or self.session is None or self.loops.going_back or frame is None:
            return None
        if os.getpid() != self._owner or sys.is_finalizing():
            return None
        loop_state, now = self.loop_state, self._clock.monotonic()
        effect: list[Any] = []
        if loop.site.followed:
            self._guarded(lambda: effect.append(loop_state.effect(frame)))
        elif self._proves or self._entry_s <= (now - loop.began) * _ENTRY_SHARE:
            self._guarded(lambda: effect.append(loop_state.entry(frame)))
        return effect[0] if effect else None

    def takes_turns(self, loop: RunningLoop) -> None:
        if self.session is not None:
            self.session.messages.say(
                f"Loops take turns, as those of several asyncio tasks do: the one at {loop.site.where} goes on although "
                "another has gone on in the meantime. They cannot be led back to their places, so nothing more is saved. "
                "The training goes on.",
                "warning",
            )
        self._step_aside()

    def boundary(self, loop: RunningLoop, frame: FrameType) -> None:
        if self.loops.training is not self:  # it has stepped aside while the loop was running
            return
        if self.session is None:
            if not (loop.site.by_update or self.loops.iterations_are_steps):
                return
            self._guarded(lambda: self._open(frame))
            if self.session is None:
                return
        self._guarded(lambda: self._at_boundary(loop, frame))

    # -- what is another in a cell of a notebook -------------------------------------------------------------------

    def may_begin(self) -> bool:
        """Whether the loop that is about to begin is this training's."""
        own_box = "backprop" in sys.modules  # the package that only users import
        return not (own_box or attach_rules.a_session_was_opened() or not attach_rules.wants_this_loop())

    def may_resume(self) -> bool:
        """Whether there may be something to go back to, so that a session is opened before the first step."""
        return may_go_back() and not os.environ.get(contract.SCRIPT_RESUMES)

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
        print(f"backprop: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None

    # -- from beginning to end -----------------------------------------------------------------------------------

    def _begin(self, frame: FrameType) -> None:
        """The first loop that trains begins: from here on what changes is known."""
        if not self.may_begin():
            self._step_aside()
            return
        frameworks = frameworks_in_use()
        if self._among_ranks and (self.loops.stack or not any(one.knows_ranks() for one in frameworks)):
            self._hand_over()  # the ranks have to begin in one loop, when they know of each other
            return
        self.loop_state = loop_state = ScriptLoopState(frameworks, self.loops)
        resuming = self.may_resume()
        for framework in loop_state.frameworks:
            passes = framework.loader_passes()
            if passes is not None:
                loop_state.passes.append(passes)
                self._hooks.enter_context(passes.watch(loop_state))
            trained = framework.trained_objects()
            if trained is not None:
                loop_state.trained.append(trained)
                self._hooks.enter_context(trained.watch(self))
        self.loops.iterations_are_steps = not any(trained.sees_steps for trained in loop_state.trained)
        loop_state.baseline(frame)
        attach_rules.stand_by(self._step_aside)
        if resuming:
            self._open(frame)

    def before_step(self, *, closure: bool, seldom: bool) -> None:
        """Just before an optimizer steps: a session is there before the first one."""
        self._steps.begun = None
        if self.session is None and has_an_adapter(sys._getframe(1)):
            return
        self.loops.steps_seen = True
        if self.session is None and self.loop_state is not None and not self.loops.going_back:
            if not self.loops.stack:
                self._hand_over()
                return
            self._guarded(lambda: self._open(self._script_frame()))
        if closure and self.session is not None:
            self._guarded(lambda: self._step_comes(seldom))

    def _step_comes(self, seldom: bool) -> None:
        loop_state, frame = self.loop_state, self._script_frame()
        assert loop_state is not None
        if self._steps.is_awaited():
            self._arrive(None, frame)
        self._steps.begin(loop_state, frame, seldom=seldom)

    def evaluation(self) -> AbstractContextManager[None]:
        """Loops inside belong to the step."""
        return self._steps.evaluation(counted=self.session is None)

    def inside_step(self, *, lowest: bool, seldom: bool) -> None:
        """Inside of a step that has evaluated its function many times; ends the process when its time is over."""
        session = self.session
        if session is None or self._steps.begun is None or self.loops.going_back:
            return
        if seldom:
            self.loops.steps += 1
        if self._clock.monotonic() < session.wake:
            return
        forced = session.may_leave_by_itself and session.look() and self._must_leave(session)
        if forced or (seldom and lowest):
            self._guarded(lambda: self._boundary_inside(session, self._script_frame()))

    def _boundary_inside(self, session: Session, frame: FrameType) -> None:
        loop_state = self.loop_state
        assert loop_state is not None
        session.messages.say_once(INSIDE_A_STEP)
        loop_state.inside = self._steps.begun
        try:
            loop_state.at(None, frame)
            if loop_state.grew() or not loop_state.objects:
                self._say_found(loop_state.find(frame))
            pending, self._told = self.loops.steps - self._told, self.loops.steps
            if session.boundary(pending):
                self._leave()
        finally:
            loop_state.inside = None

    def stepped(self) -> None:
        """An optimizer has stepped."""
        if self.session is None and has_an_adapter(sys._getframe(1)):
            return
        self.loops.steps_seen = self.loops.stepped = True
        if self.session is None and self.loops.stack:
            self.alarm.wake = 0.0
            self._guarded(lambda: self._open(self._script_frame()))

    def _script_frame(self) -> FrameType:
        return sys._getframe(1)

    def _hand_over(self) -> None:
        """A step was taken outside all loops that are counted: those of a package. They are watched from outside."""
        self._step_aside()
        attach_rules.loops_are_counted(yes=False)

    def _open(self, frame: FrameType) -> None:
        loop_state = self.loop_state
        assert loop_state is not None
        attach_rules.stand_by(lambda: None)
        loop_state.at(self.loops.stack[-1] if self.loops.stack else None, frame)
        ranks = ranks_among(loop_state.frameworks)
        try:
            self.session = session_among(
                ranks, self.settings_for(loop_state.label()), loop_state, self._clock
            )
            self.session.open()
        except (NotJoinedError, RankError):
            self.session = None
            self._step_aside()
            return
        except BaseException:
            self.session = None
            raise
        self._stay = self.when_over()
        attach_rules.stand_by(self._step_aside)
        self._set_up(self.session, loop_state, frame)

    def _tell_of_early_fault(self) -> None:
        if self._early_fault is not None:
            raise self._early_fault

    def _set_up(self, session: Session, loop_state: ScriptLoopState, frame: FrameType) -> None:
        session.together(self._tell_of_early_fault)
        if session.restored is not None:
            if not loop_state.go_back(session.restored.states):
                session.withdraw()
                self._step_aside()
                attach_rules.loops_are_counted(yes=False)
                return
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
        self.alarm = session

    def _arrive(self, loop: RunningLoop | None, frame: FrameType) -> None:
        """The innermost loop that was running has begun again, or the interrupted step: everything is put back."""
        session, loop_state = self.session, self.loop_state
        assert session is not None
        assert session.restored is not None
        assert loop_state is not None
        loop_state.at(loop, frame)
        for missing in loop_state.arrive(
            session.restored.states, f"Checkpoint {session.resumed_from}", frame
        ):
            session.messages.say(f"Not restored: {missing}.", "warning")
        for sentence in loop_state.rewind_files(session.restored.states):
            session.messages.say(sentence)
        self._told = self.loops.steps
        if loop is not None and loop.index:  # its steps were counted by the process before
            self.loops.stepped_in(loop)
        session.weigh()
        session.arrived()

    def _at_boundary(self, loop: RunningLoop, frame: FrameType) -> None:
        session, loop_state, loops = self.session, self.loop_state, self.loops
        assert session is not None
        assert loop_state is not None
        if self._gave_notice:
            session.boundary(1)
            return
        if loops.going_back:
            if session.may_leave_by_itself and session.look():
                session.leave(save=False)
                self._leave()
            return
        loop_state.at(loop, frame)
        pending = loops.steps - self._told
        if not loop_state.can_be_found_again():
            return
        if pending:
            self._told = loops.steps
            if loop_state.grew():
                self._say_found(loop_state.find(frame))
            phase = Phase.EPOCH_END if loop.index == loop.length else Phase.PLAIN
            if session.boundary(pending, phase=phase):
                self._leave()
            return
        if not loop.site.trains:
            session.prove(evaluates=True)
        if (
            session.may_leave_by_itself
            and session.look()
            and self._must_leave(session)
            and not loop_state.awaits_backward()
        ):
            session.leave()
            self._leave()

    def _must_leave(self, session: Session) -> bool:
        """Inside something longer than a step: whether the next boundary may come too late."""
        pacer = session.pacer
        return (
            session.is_cut
            or session.remaining_s() < pacer.save_s() + pacer.exit_s() + 2 * session.forecast.longest_step_s()
        )

    def _say_found(self, fresh: str) -> None:
        if fresh and self.session is not None:
            self.session.messages.say(fresh)

    def _leave(self) -> None:
        session = self.session
        assert session is not None
        leaving = session.leaving
        self._close(Outcome.PREEMPTED if leaving is None else leaving.outcome, "")
        self.go_away()

    def _guarded(self, what: Callable[[], None]) -> None:
        try:
            what()
        except (StateMismatchError, UnkeptStateError) as error:
            self._close(Outcome.FAILED, str(error))
            self.refuse(error)
        except RankError:  # said by the process that it failed in
            self._step_aside()
        except Exception as error:
            self._fails(error)

    def _fails(self, error: Exception) -> None:
        """A fault of our own: said once, and the script goes on without us, as soon as other ranks know of it."""
        session = self.session
        if not self._gave_notice:
            if session is not None and session.steps:
                attach_rules.stepped_aside("the script's loops", error, governed=session.governed)
            else:
                attach_rules.give_up("the script's loops", error)
        if self._among_ranks and session is None and self.loop_state is not None:
            self._early_fault = error  # the others are told when all of them open their sessions
            self._gave_notice = True
        elif session is not None and self.alarm is session and session.give_notice(described(error)):
            self._gave_notice = True
        else:
            self._step_aside()

    def _step_aside(self) -> None:
        """Leave the script to itself, or to another session of ours."""
        session, self.session = self.session, None
        self.loops.training = None
        self.alarm = _Alarm()
        if session is not None:
            with suppress(Exception):
                session.withdraw()
            self._stay()
        if (files := script_files.current()) is not None:
            files.starts_anew()
        self._hooks.close()

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
            self._close(Outcome.COMPLETED, "")
        elif isinstance(error, KeyboardInterrupt):
            self._close(Outcome.STOPPED, "interrupted by the keyboard")
        else:
            self._close(Outcome.FAILED, f"{type(error).__name__}: {error}")

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
