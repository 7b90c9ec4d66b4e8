"""The engine of one attempt, and the one port that adapters call.

An adapter opens a session, calls `boundary` between optimizer steps (or only when `clock.monotonic() >= session.wake`, which
is cheap), and leaves its training loop when `boundary` returns True. Deciding, saving, restoring, talking and the record
are done here, so that all adapters keep the same promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from backprop_core.checkpoints.manifest import CheckpointFacts, CheckpointInfo, address_of
from backprop_core.checkpoints.store import Loaded
from backprop_core.clock import SYSTEM, Clock
from backprop_core.deadline.budget import JOB_VARIABLES, duration_text, resolve_deadlines
from backprop_core.deadline.budget_progress import budget_progress
from backprop_core.deadline.decision import BoundaryAction, Decision, Leave
from backprop_core.deadline.forecast import Forecast, Phase
from backprop_core.deadline.pacing import Pacer
from backprop_core.errors import UnkeptStateError
from backprop_core.events.kinds import SessionWithdrawn
from backprop_core.outcome import Outcome, SaveReason
from backprop_core.runs.process import boot_id
from backprop_core.script_state.unkept import Unkept, forget_in_workers, in_one_line, noted_in_workers
from backprop_core.session import attach_rules
from backprop_core.session.conduct import Conduct
from backprop_core.session.enrolment import Enrolment
from backprop_core.session.find_checkpoint import load_for
from backprop_core.session.hands import SessionHands
from backprop_core.session.hang_guard import Guard
from backprop_core.session.join_run import enrol
from backprop_core.session.messages import LogValues, Messages
from backprop_core.session.proof import recorder_of
from backprop_core.session.ranks_error import LostRankError, RankError, described
from backprop_core.session.report_lines import Reporter
from backprop_core.session.requests import Requests
from backprop_core.session.saver import Saver
from backprop_core.session.schedules import Schedules
from backprop_core.session.scripts_checkpoint import ScriptsCheckpoint
from backprop_core.session.settings import SessionSettings
from backprop_core.session.training_state import Position, TrainingState

__all__ = ["BLOCK_S", "Position", "Session", "TrainingState"]

RESERVE_AFTER_STEPS = 2
"""After so many steps an optimizer has all of its state: memory for copies is taken then."""
BLOCK_S = 0.02
"""Boundaries closer together than this are looked at as one block; see forecast.py."""

_MOST_NAMED = 10


class Session:
    """One attempt, from `open` to `close`.

    Attributes:
        wake: the instant (monotonic) from which on a boundary must be told; earlier ones may be skipped.
        outcome: `running` until the session is closed.
        restored: the checkpoint that was loaded at `open`, or None.
        checkpoint: the newest checkpoint committed, or the one resumed from; None if there is none.
        leaving: why the loop has to be left, or None.
        opened: `open` has found all that it needs; where it fails there is no run, no deadline and nothing to close.
        is_cut: a proof has the training end at this very place.
        group: a name that the processes which train together have in common; empty for one alone.
        environment: versions and flags that exactness depends on, as they were when training began.
        passes_over: what was restored is the end of a training that is completed, and nobody asked to train on from it.
    """

    def __init__(
        self,
        settings: SessionSettings,
        training_state: TrainingState,
        *,
        clock: Clock = SYSTEM,
        silent: bool = False,
        leave_s: float = 0.02,
    ) -> None:
        self.settings = settings
        self.training_state = training_state
        self.clock = clock
        self._leave_s = leave_s
        self.messages = Messages(silent=silent)
        self.forecast = Forecast()
        self.logged = LogValues()
        self.outcome = Outcome.RUNNING
        self.reason = ""
        self.wake = 0.0
        self.restored: Loaded | None = None
        self.leaving: Decision | None = None
        self._first_unkept: Unkept | None = None
        forget_in_workers()
        self._reserved = False
        self._began_at: int | None = None
        self.opened = self.passes_over = False
        self.scripts_checkpoint: ScriptsCheckpoint | None = None
        self.recorder = recorder_of(settings.environ)
        self.is_cut = False
        self.group = ""
        self.environment: dict[str, Any] = {}
        self.schedules = Schedules(self)

    # -- opening -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Find the run, the deadline and the checkpoint to go on from.

        Raises:
            UsageError, StoreError: what was asked for cannot be done; nothing was begun.
        """
        settings, clock = self.settings, self.clock
        attach_rules.session_opens(self)
        environ = settings.environ
        if any(map(environ.get, JOB_VARIABLES)):
            from backprop_core.deadline.scheduler import with_job_end  # late: it needs subprocess

            environ = with_job_end(environ)
        self.deadlines = resolve_deadlines(
            budget=settings.budget,
            until=settings.until,
            environ=environ,
            clock=clock,
            boot_id=boot_id(),
            origin=settings.origin,
        )
        self.enrolment: Enrolment = enrol(settings, self.deadlines, clock)
        try:
            self._open_enrolled()
        except BaseException:
            self.enrolment.finish(Outcome.FAILED, "the box could not be opened")
            raise

    def _open_enrolled(self) -> None:
        enrolment, clock = self.enrolment, self.clock
        self.messages.attach(enrolment.attempt.events)
        for measured in enrolment.earlier:
            self.forecast.learn(measured)
        enrolment.checkpoints.sweep()
        # First of all: what a process before this one has left is committed then, and may be what is gone on from.
        survivor = None
        if enrolment.governed:
            from backprop_core.runs.handover import MemoryOwner  # late: nobody else holds its memory
            from backprop_core.session.survivor import join_survivor

            place = address_of(enrolment.checkpoints.directory)
            owner = MemoryOwner(enrolment.run_id, enrolment.attempt.number, place, self.group)
            translators = self.training_state.translators
            survivor = join_survivor(enrolment.attempt.directory, owner, translators, clock)
        self.restored = load_for(enrolment, self.training_state.translators, self._warn, self.suits)
        self._pass_over_what_is_completed()
        translators = self.training_state.translators
        self.saver = Saver(enrolment.checkpoints, clock, self.forecast, translators, survivor)
        self.requests = Requests(enrolment.attempt.control(), self.settings.grace_s, clock, self._wake_up)
        self.requests.governed = enrolment.governed
        self.reporter = Reporter(self)
        self.guard = Guard(self, self.reporter)
        for note in (*self.deadlines.notes, *enrolment.notes, *self.requests.notes):
            self.messages.say_once(note)
        now = clock.monotonic()
        self.pacer = Pacer(
            self.forecast,
            began=now,
            budget_s=self.deadlines.earliest.at - now,
            governed=enrolment.governed,
            survives=survivor is not None,
            start_up_s=max(0.0, now - self.deadlines.start),
            leave_s=self._leave_s,
            asked_every_s=self.settings.checkpoint_every_s,
        )
        self.budget_progress = budget_progress(self.deadlines.budget_s, self.settings.environ, clock)
        self.hands = SessionHands(self, self.guard, self.reporter)
        self.conduct = Conduct(self.pacer, self.hands)
        if enrolment.governed and self.deadlines.earliest.at <= clock.monotonic():
            # with --budget-from training the box was put off while the script started
            self._obey(clock.monotonic())
        self.opened = True
        self.environment = dict(self.training_state.environment())
        self.reporter.start()

    def _pass_over_what_is_completed(self) -> None:
        """The script runs again from its top, and this training of it was over before."""
        settings, restored = self.settings, self.restored
        if restored is None or restored.info.facts.reason is not SaveReason.FINAL:
            return
        self.passes_over = settings.resume == "auto" and not settings.attached
        if self.passes_over:
            self.messages.say(
                f"This training of run {restored.info.facts.run_id} is already completed: its final state is restored, and "
                "it is skipped. To continue training from there, give resume=True; to start from scratch, resume=False."
            )

    def suits(self, facts: CheckpointFacts) -> bool:
        """Whether this training can go on from a checkpoint of these facts."""
        return True

    def _warn(self, text: str) -> None:
        self.messages.say(text, "warning")

    def begins_with(self, theirs: ScriptsCheckpoint) -> None:
        """Training goes on from a checkpoint of the script's own, and not from what was restored."""
        self.scripts_checkpoint, self.passes_over = theirs, False
        if self.restored is not None:
            self.restored.states.clear()

    @property
    def copies_are_saves(self) -> bool:
        """Whether a state cannot be copied here for the case that it is needed: other processes hold parts of it."""
        return False

    def copies_of_all_ranks(self) -> AbstractContextManager[bool]:
        """Inside, whoever is asked for a part of the state copies its own into memory that outlives it.

        False where one of them has no such memory.
        """
        return nullcontext(False)

    # -- what users see ----------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The id of the run; empty while none is known."""
        return self.enrolment.run_id if self.opened else ""

    @property
    def governed(self) -> bool:
        """Whether a governor outside waits for this process to end."""
        return self.opened and self.enrolment.governed

    @property
    def resumed_from(self) -> str | None:
        """The checkpoint that training goes on from: of ours, or one that the script names itself and that is newer."""
        if self.scripts_checkpoint is not None:
            return self.scripts_checkpoint.path
        return None if self.restored is None else self.restored.info.address

    @property
    def checkpoint(self) -> CheckpointInfo | None:
        if self.opened and self.saver.newest is not None:
            return self.saver.newest
        return None if self.restored is None else self.restored.info

    @property
    def steps(self) -> int:
        """Steps of this attempt so far, as far as boundaries were told."""
        return self.pacer.steps

    def steps_made(self) -> int:
        """Steps of this attempt, those too that no boundary was told of: a look was not due, or the loop was over."""
        restored = self.restored
        began = restored.info.step if restored is not None else self._began_at
        return max(self.pacer.steps, 0 if began is None else self.training_state.position().step - began)

    @property
    def reserve_kept_s(self) -> float | None:
        """Seconds that were left when the last save began; None where there was none."""
        return self.conduct.reserve_kept_s

    def remaining_s(self) -> float:
        """Seconds to the earliest deadline, never negative."""
        if not self.opened:
            return 0.0
        return max(0.0, self.deadlines.earliest.at - self.clock.monotonic())

    def progress(self) -> float:
        """The share of the budget that is used, from 0 to 1, over all boxes of a `--total`; 1 where the reserve begins."""
        if not self.opened:
            return 0.0
        pacer = self.pacer
        reserve_s = pacer.save_s() + pacer.exit_s() + self.forecast.longest_step_s()
        return self.budget_progress.share(self.clock.monotonic(), self.remaining_s(), reserve_s)

    def progress_at(
        self, step: int, name: str = "schedule", replay: str | None = None, owner: object = None
    ) -> float:
        """The share of the budget that step `step` of a schedule has: as recorded or replayed, else as it is now.

        What is given is recorded in the run, so the same step gets the same share again after a kill.

        Args:
            step: steps that the schedule has seen, from 0.
            name: of the schedule, where a training has several.
            replay: the id of a run, or a file, whose recorded schedule is followed instead of the clock.
            owner: stands for the schedule; another one must not use the same name.

        Raises:
            UsageError: nothing is recorded there, or the name is taken.
        """
        if not self.opened or self.outcome is not Outcome.RUNNING:
            return self.progress()
        return self.schedules.share_at(step, name, replay, owner)

    def log(self, values: Mapping[str, Any]) -> None:
        """Values of the running step; scalars of any framework, read only when they are shown."""
        self.logged.update(values)
        if self.recorder is not None:
            self.recorder.logged(values)

    def together(self, what: Callable[[], None]) -> None:
        """Do `what`, a step of the set-up; of several processes that train together all do it, or none.

        Raises:
            RankError: it failed in another process.
        """
        what()

    def weigh(self) -> None:
        """Before training: can the state be stored at all, how large is it, and does its save fit the box?

        Raises:
            UnsavableStateError: a value that cannot be stored without pickle; names where it sits.
        """
        self.saver.take(self.training_state.states())
        self.pacer.state_bytes = self.saver.state_bytes
        self.reporter.size()

    # -- boundaries --------------------------------------------------------------------------------------------

    def _wake_up(self) -> None:
        self.wake = 0.0

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        """A point between two optimizer steps. True: leave the loop, everything is saved.

        Args:
            steps: boundaries since the last call, this one included.
            phase: what lies between this boundary and the next.
            then: what follows at once after that and must fit as well, because stopping in between is unwelcome.
        """
        if self.leaving is not None:
            return True
        if steps:
            self.training_state.synchronize()
        if self.recorder is not None:
            self.prove(evaluates=not steps and phase is Phase.WITHIN_VALIDATION)
        if self._began_at is None or (steps and not self.pacer.steps):
            # A loop that is watched only after a second has made steps before; the first boundary with steps tells them.
            self._began_at = self.training_state.position().step - steps
        now = self.clock.monotonic()
        self.pacer.state_bytes = self.saver.state_bytes
        held_s = self._take_in(now)
        facts = self.conduct.at_boundary(now, steps, phase, then, held_s=held_s)
        self.leaving = self.conduct.leaving
        if self.saver.survivor is not None:
            self.saver.survivor.passed(self._began_at + self.pacer.steps, max(1, steps))
        if self.leaving is None:
            if not self._reserved and self.pacer.steps >= RESERVE_AFTER_STEPS:
                self._reserved = True
                self.hands.reserve()
            self.reporter.put_off()
            self.reporter.progress(now)
            self.conduct.goes_on(facts, phase)
            leaving_soon = self.requests.pending or self.requests.leave is not None
            looks_at_all = leaving_soon or self.recorder is not None
            self.wake = 0.0 if looks_at_all else self.pacer.last_boundary + BLOCK_S
        self._insist()
        return self.leaving is not None

    def name_unkept(self, *, insist: bool = True) -> None:
        """A checkpoint was made, or a copy that may become one: say, once, what the script changes and is not in it.

        Args:
            insist: with `strict` that ends the training.
        """
        unkept = [*self.training_state.unkept(), *noted_in_workers()]
        if self.recorder is not None:
            self.recorder.name_unkept(self)
        for one in unkept[:_MOST_NAMED]:
            self.messages.say_once(str(one), "warning")
        if len(unkept) > _MOST_NAMED:
            self.messages.say_once(f"Also not kept: {in_one_line(unkept[_MOST_NAMED:])}.", "warning")
        if insist:
            self._first_unkept = unkept[0] if unkept else None

    def _insist(self) -> None:
        """With `strict` a checkpoint that lacks something ends the training, behind the save."""
        if self.settings.strict and self._first_unkept is not None:
            one = self._first_unkept
            raise UnkeptStateError(
                f"`{one.name}` ({one.type.rpartition('.')[2]}) changes during training and cannot be kept: {one.why}.",
                f"{one.what_to_do} Without strict=True (--strict) this is a warning.",
            )

    def _take_in(self, now: float) -> float:
        """What has come since the last boundary, before anything is decided; returns what `_obey` does."""
        self.guard.let_finish()
        self.hands.collect()
        return self._obey(now)

    def _obey(self, now: float) -> float:
        """Do what is asked; the seconds of the gap until `now` in which the process was held from outside."""
        machine_slept_s = self.deadlines.notice_sleep(self.clock.asleep_s())
        if machine_slept_s:
            self.messages.say(f"The machine was suspended for {duration_text(machine_slept_s)}.")
        paused_s, extended_s = self.requests.poll(now, self.deadlines, self.messages)
        slept_s = self.requests.slept_s
        if paused_s or extended_s:
            self.deadlines.shift(paused_s + extended_s)
            self.pacer.budget_s += paused_s + extended_s
            self.budget_progress.extend(extended_s - self.requests.slept_s)
            self.requests.applied(extended_s)
        return slept_s

    def look(self) -> bool:
        """Inside something longer than a step, such as a validation: whether it has to be left now.

        Nothing is saved or learnt here. Whoever leaves calls `leave` when the state is that of a boundary again.
        """
        now = self.clock.monotonic()
        if self.recorder is not None:
            self.prove(evaluates=True)
        self._obey(now)
        self.wake = now + BLOCK_S if self.recorder is None else 0.0
        return self.conduct.look()

    def leave(self, *, save: bool = True) -> None:
        """What `look` asked for: save, and end the attempt.

        Args:
            save: the state is worth it; otherwise the newest checkpoint is what there is.
        """
        self.conduct.leave(save=save)
        self.leaving = self.conduct.leaving

    def leave_at_once(self, why: str, *, save: bool = True) -> None:
        """The loop is being left for a reason of its own (a stop signal killed the loader's workers).

        Args:
            save: the state is that of a boundary; otherwise the newest checkpoint is what there is.
        """
        leave = self.requests.leave or Leave(Outcome.PREEMPTED, why, at_once=True)
        self.conduct.leave_at_once(leave, save=save)
        self.leaving = self.conduct.leaving

    def leave_completed(self) -> None:
        """The loop is being left because what it trains was completed before; there is nothing to save."""
        self.guard.stand_down()
        self.leaving = Decision(
            BoundaryAction.STOP, SaveReason.FINAL, Outcome.COMPLETED, "it was completed before"
        )

    # -- what a checkpoint says --------------------------------------------------------------------------------

    def checkpoint_facts(self, reason: SaveReason) -> CheckpointFacts:
        """What the manifest is to say of a checkpoint made now."""
        position = self.training_state.position()
        return CheckpointFacts(
            run_id=self.run_id,
            attempt=self.enrolment.attempt.number,
            step=position.step,
            epoch=position.epoch,
            batch=position.batch,
            reason=reason,
            box=self.enrolment.box,
            cursor=position.cursor,
            environment={**self.training_state.environment(), **self.environment},
            slack_s=self.deadlines.earliest.at - self.clock.monotonic(),
            extra={"measured": self.forecast.measured(), "copy_s": self.pacer.copy_costs_s()},
        )

    # -- closing -----------------------------------------------------------------------------------------------

    def _nothing_was_added(self) -> bool:
        """Whether the end of a completed training was restored, and is what there is to save now."""
        if self.restored is None or self.restored.info.facts.reason is not SaveReason.FINAL:
            return False
        return (
            self.scripts_checkpoint is None and self.training_state.position().step == self.restored.info.step
        )

    def withdraw(self, why: str = "") -> None:
        """Stop without a word on the training, which goes on without a session; other processes of it are told `why`."""
        self.guard.stand_down()
        self.saver.close(completed=True)
        self.requests.stop()
        self.guard.stop()
        self.messages.event(SessionWithdrawn())
        self.enrolment.release()

    def step_aside(self, error: Exception) -> None:
        """A fault of our own: the training goes on without a session, and that is said."""
        self.say_why_aside(error, self.settings.framework)
        with suppress(Exception):
            if self.governed:
                self.withdraw(described(error))
            else:
                self.close(Outcome.FAILED, f"backprop stepped aside: {type(error).__name__}: {error}")

    def say_why_aside(self, error: Exception, framework: str) -> None:
        """One line, from the process that knows: what another one ran into that one has said."""
        if not isinstance(error, RankError):
            attach_rules.stepped_aside(framework, error, governed=self.governed)
        elif isinstance(error, LostRankError) and not self.messages.silent:
            attach_rules.continues_without(error, governed=self.governed)

    def save_final_state(self) -> None:
        """The loop ran to its end."""
        self.conduct.save_now(SaveReason.FINAL)

    def complete(self, steps: int) -> None:
        """The loop ran to its end; it took `steps` since the last boundary. Of several processes all come here."""
        self.pacer.steps += steps
        self.close(Outcome.COMPLETED)

    @property
    def may_leave_by_itself(self) -> bool:
        """Whether a stop signal has come, and no other process waits for this one at the next boundary."""
        return bool(self.requests.signalled) or self.is_cut

    # -- a proof -------------------------------------------------------------------------------------------------

    def prove(self, *, evaluates: bool = False, decides: bool = True) -> None:
        """Under `backprop prove`: write down what this boundary holds, and cut where the orders say.

        Args:
            evaluates: it is no boundary, but a place at which an evaluation could be left.
            decides: this process is one that may cut.
        """
        if self.recorder is None:
            return
        if evaluates:
            self.recorder.in_evaluation(self)
        else:
            self.recorder.at_boundary(self, decides=decides)

    def arrived(self) -> None:
        """Told by the adapter of a resumed attempt when everything has been put back; the next step is a new one."""
        if self.recorder is not None:
            self.recorder.arrived(self)

    def cut_here(self, why: str) -> None:
        """As if the time were over at this very place."""
        self.is_cut = True
        self.requests.leave = Leave(Outcome.TIMEBOXED, why, at_once=True, here=True)

    def close(self, outcome: Outcome, reason: str = "") -> None:
        """The loop has been left. A loop that ran to its end is saved once more, as `final`.

        Raises:
            SystemExit: a stop signal belongs to a library that requeues the job, and it has done so.
        """
        if not self.opened:  # the error that kept it from opening is on its way to the user
            self.outcome, self.reason = outcome, reason
            return
        self.guard.stand_down()
        if outcome is Outcome.COMPLETED and not self._nothing_was_added():
            self.save_final_state()
        try:
            self.hands.wait()
            self.saver.close(completed=outcome is Outcome.COMPLETED)
            self.hands.collect()
        finally:
            self.schedules.close()
            self.requests.stop()
            self.guard.stop()
            self.outcome, self.reason = outcome, reason or (self.leaving.text if self.leaving else "")
            unwritten = self.enrolment.finish(self.outcome, self.reason, self.reporter.end())
            if unwritten:
                self._warn(unwritten)
        self.requests.pass_on()
