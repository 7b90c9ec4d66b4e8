"""The training of a rewritten script: what its loops and optimizers tell, turned into boundaries of a session.

Between two iterations of a counted loop everything is known: which loops run and how far, and all that the script's
variables hold. So any such place can be left and found again. Steps are boundaries at once; elsewhere, in an evaluation,
say, only the deadline makes one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

from backprop_core.clock import SYSTEM, Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.loop.counted_loops import CountedLoops
from backprop_core.loop.iteration_starts import IterationStarts
from backprop_core.loop.running_loop import EndedLoop, RunningLoop
from backprop_core.loop.script_frames import has_an_adapter
from backprop_core.loop.script_loop_state import ScriptLoopState
from backprop_core.loop.script_resume import catch_up, items_of, put_back, restored_states
from backprop_core.loop.script_session import ScriptSession
from backprop_core.loop.script_steps import LongSteps
from backprop_core.loop.watched_loop import INSIDE_A_STEP
from backprop_core.ports.framework import frameworks_in_use
from backprop_core.script_state.rewrite import Site
from backprop_core.session import attach_rules
from backprop_core.session.proof import noted, recorder_of
from backprop_core.session.session import Session

_UPDATES_FOR_S = 1.0
"""A loop of which nobody knows whether it trains has run so long before a session opens for it."""


class ScriptTraining(ScriptSession):
    """What the counted loops tell, turned into a session's boundaries. Implements `counted_training.CountedTraining`."""

    def __init__(self, loops: CountedLoops, clock: Clock = SYSTEM) -> None:
        super().__init__(loops, clock)
        self._told = 0
        self._proves = recorder_of() is not None  # then every step is a boundary, whatever it costs
        self._starts = IterationStarts(clock, proves=self._proves, among_ranks=self._among_ranks)
        self._steps = LongSteps(loops, clock)

    # -- what the loops tell -----------------------------------------------------------------------------------

    def loop_is_met(self, site: Site, frame: FrameType) -> None:
        if self.loop_state is None and site.trains:
            self._guarded(lambda: self._begin(frame))

    def loop_opens(self, loop: RunningLoop, frame: FrameType) -> None:
        loop_state = self.loop_state
        if loop_state is not None:
            around = self.loops.stack[-1] if self.loops.stack else None
            self._guarded(lambda: self._starts.loop_begins(loop, around, loop_state, frame))

    def begun(self, loop: RunningLoop, source: Any) -> Iterable[Any]:
        loop_state, items = self.loop_state, [source]
        if loop_state is not None:
            self._guarded(lambda: items.append(items_of(loop, source, loop_state, self.session, self.loops)))
        return noted(items[-1]) if loop.site.trains else items[-1]

    def entered(self, loop: RunningLoop, frame: FrameType) -> None:
        if self.session is None and loop is self.loops.stack[0] and not self.loops.steps_seen:
            self.alarm.wake = 0.0 if self._proves else self._clock.monotonic() + _UPDATES_FOR_S
        if loop.saved is None or loop.late is not None:
            return
        saved, loop.saved = loop.saved, None
        if loop.innermost:
            self._guarded(lambda: self._arrive(loop, frame))
        elif saved.entry is not None and self.loop_state is not None:
            loop.entry = saved.entry

    def entered_late(self, loop: RunningLoop, frame: FrameType) -> None:
        if catch_up(loop):
            self.loops.stepped = False
            self._guarded(lambda: self._arrive(loop, frame))

    def _arrive(self, loop: RunningLoop | None, frame: FrameType) -> None:
        """The innermost loop that was running has begun again, or the interrupted step: everything is put back."""
        session, loop_state = self.session, self.loop_state
        assert session is not None
        assert loop_state is not None
        put_back(session, loop_state, loop, frame)
        self._told = self.loops.steps
        if loop is not None and loop.index:  # its steps were counted by the process before
            self.loops.stepped_in(loop)
        session.weigh()
        session.arrived()
        self._is_led_back = False

    def iteration_begins(self, loop: RunningLoop, frame: FrameType) -> None:
        loop_state = self.loop_state
        if loop_state is not None:
            self._guarded(lambda: self._begin_iteration(loop, loop_state, frame))

    def _begin_iteration(self, loop: RunningLoop, loop_state: ScriptLoopState, frame: FrameType) -> None:
        took_s = self._starts.tick(loop)
        goes_back = self.loops.going_back
        if goes_back and loop.entry is not None:
            loop_state.restore_entry(loop.entry, restored_states(self.session), frame)
            self._starts.look(loop, loop_state, frame)
        else:
            may_be_cut = took_s is not None and self._may_end_within(took_s)
            self._starts.iteration_begins(loop, took_s, loop_state, frame, may_be_cut=may_be_cut)
        if goes_back:  # it goes on in its middle: what is left of it does not tell how long one takes
            loop.since = 0.0

    def passed_over(self, ended: EndedLoop, frame: FrameType) -> None:
        loop_state = self.loop_state
        if loop_state is not None:
            states = restored_states(self.session)
            self._guarded(lambda: loop_state.restore_effect(ended.effect, states, frame))

    def may_begin_in_a_child(self) -> bool:
        return self.session is None and not self.loops.stack

    def ended(self, loop: RunningLoop, frame: FrameType | None) -> Any:
        if self.loop_state is None or self.session is None or self.loops.going_back or frame is None:
            return None
        if os.getpid() != self._owner or sys.is_finalizing():
            return None
        loop_state, effect = self.loop_state, list[Any]()
        self._guarded(lambda: effect.append(self._starts.left_by(loop, loop_state, frame)))
        return effect[0] if effect else None

    def takes_turns(self, loop: RunningLoop) -> None:
        if self.session is not None:
            self.session.messages.say(
                f"Loops take turns, like those of several asyncio tasks: the one at {loop.site.where} continued "
                "after another one had. Their positions cannot be restored, so nothing more is saved. "
                "Training continues.",
                "warning",
            )
        self._step_aside()

    def boundary(self, loop: RunningLoop, frame: FrameType) -> None:
        if self.loops.training is not self:  # it has stepped aside while the loop was running
            return
        if self.session is None:
            if not (loop.site.by_update or self.loops.iterations_are_steps or self._trains_unseen(loop)):
                return
            self._guarded(lambda: self._open_for_variables(loop, frame))
            if self.session is None:
                return
        self._guarded(lambda: self._at_boundary(loop, frame))

    def _trains_unseen(self, loop: RunningLoop) -> bool:
        """Whether nobody will tell of this training's steps, although a framework that can is loaded.

        JAX may train on what torch's loader gives, or a script updates its weights by hand. Ranks would not ask at the same
        iteration, so among them nobody asks.
        """
        loops, loop_state = self.loops, self.loop_state
        if (
            loop_state is None
            or loops.steps_seen
            or self._among_ranks
            or not (loop.site.trains and loops.unseen)
        ):
            return False
        self.alarm.wake = self._clock.monotonic() + _UPDATES_FOR_S
        if any(one.sees_steps and one.may_step() for one in loop_state.found_objects.trained):
            return False
        loops.iterations_are_steps = True
        loops.steps += loops.unseen
        return True

    # -- the first loop that trains --------------------------------------------------------------------------------

    def _begin(self, frame: FrameType) -> None:
        """The first loop that trains begins: from here on what changes is known."""
        if not self.may_begin():
            self._step_aside()
            return
        frameworks = frameworks_in_use()
        knows_ranks = any(one.knows_ranks() for one in frameworks)
        self._among_ranks = knows_ranks or attach_rules.is_one_of_several()
        self._starts = IterationStarts(self._clock, proves=self._proves, among_ranks=self._among_ranks)
        if self._among_ranks and (self.loops.stack or not knows_ranks):
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
                loop_state.found_objects.trained.append(trained)
                self._hooks.enter_context(trained.watch(self))
        sees_steps = any(trained.sees_steps for trained in loop_state.found_objects.trained)
        self.loops.iterations_are_steps = not sees_steps
        loop_state.baseline(frame, resumes=resuming)
        attach_rules.stand_by(self._step_aside)
        if resuming:
            self._open(frame)
            if self.session is None or self.session.restored is None:
                loop_state.script.state.let_go()

    # -- what optimizers tell --------------------------------------------------------------------------------------

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
        self._steps.begin(lambda number: loop_state.step_begins(frame, number), seldom=seldom)

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

    # -- boundaries -------------------------------------------------------------------------------------------------

    def _at_boundary(self, loop: RunningLoop, frame: FrameType) -> None:
        session, loop_state, loops = self.session, self.loop_state, self.loops
        assert session is not None
        assert loop_state is not None
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
            and loop_state.may_be_left(loop)
        ):
            session.leave()
            self._leave()

    def _may_end_within(self, took_s: float) -> bool:
        """Whether the box may end in an iteration that takes about as long: then every place in it has to be found again.

        Among ranks, of which the first alone knows what a save takes, every iteration is looked at anyway.
        """
        if self.session is None or self._among_ranks:
            return False
        pacer = self.session.pacer
        return self.session.remaining_s() < 2 * took_s + pacer.save_s() + pacer.exit_s()

    def _must_leave(self, session: Session) -> bool:
        """Inside something longer than a step: whether the next boundary may come too late."""
        pacer = session.pacer
        return (
            session.is_cut
            or session.remaining_s() < pacer.save_s() + pacer.exit_s() + 2 * session.forecast.longest_step_s()
        )
