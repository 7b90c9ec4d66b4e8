"""The engine of one attempt, and the one port that adapters call.

An adapter opens a session, calls `boundary` between optimizer steps (or only when `clock.monotonic() >= session.wake`, which
is cheap), and leaves its training loop when `boundary` returns True. Deciding, saving, restoring, talking and the record
are done here, so that all adapters keep the same promises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backprop_core.checkpoints.manifest import CheckpointFacts, CheckpointInfo
from backprop_core.checkpoints.store import Loaded
from backprop_core.clock import SYSTEM, Clock
from backprop_core.deadline.budget import duration_text, resolve_deadlines
from backprop_core.deadline.decision import Action, Facts, Leave, Verdict, decide
from backprop_core.deadline.forecast import Forecast, Phase
from backprop_core.deadline.pacing import Asks, Pacer
from backprop_core.errors import CheckpointError
from backprop_core.outcome import Outcome, SaveReason
from backprop_core.runs.process import boot_id
from backprop_core.session import attach_rules
from backprop_core.session.find_checkpoint import load_for
from backprop_core.session.hang_guard import Guard
from backprop_core.session.join_run import Enrolment, enrol
from backprop_core.session.messages import LogValues, Teller
from backprop_core.session.report_lines import Reporter
from backprop_core.session.requests import Requests
from backprop_core.session.saver import Saver
from backprop_core.session.settings import Settings
from backprop_core.session.training_state import Position, Trainee

__all__ = ["BLOCK_S", "Position", "Session", "Trainee"]

RESERVE_AFTER_STEPS = 2
"""After so many steps an optimizer has all of its state: memory for copies is taken then."""
BLOCK_S = 0.02
"""Boundaries closer together than this are looked at as one block; see forecast.py."""


class Session:
    """One attempt, from `open` to `close`.

    Attributes:
        wake: the instant (monotonic) from which on a boundary must be told; earlier ones may be skipped.
        outcome: `running` until the session is closed.
        restored: the checkpoint that was loaded at `open`, or None.
        checkpoint: the newest checkpoint committed, or the one resumed from; None if there is none.
        leaving: why the loop has to be left, or None.
    """

    def __init__(
        self,
        settings: Settings,
        trainee: Trainee,
        *,
        clock: Clock = SYSTEM,
        silent: bool = False,
        leave_s: float = 0.02,
    ) -> None:
        self.settings = settings
        self.trainee = trainee
        self.clock = clock
        self._leave_s = leave_s
        self.teller = Teller(silent=silent)
        self.forecast = Forecast()
        self.logged = LogValues()
        self.outcome = Outcome.RUNNING
        self.reason = ""
        self.wake = 0.0
        self.restored: Loaded | None = None
        self.leaving: Verdict | None = None
        self._looked = Verdict(Action.CONTINUE)
        self._reserved = False
        self.reserve_kept_s: float | None = None

    # -- opening -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Find the run, the deadline and the checkpoint to go on from.

        Raises:
            UsageError, StoreError: what was asked for cannot be done; nothing was begun.
        """
        settings, clock = self.settings, self.clock
        attach_rules.session_opens()
        self.deadlines = resolve_deadlines(
            budget=settings.budget,
            until=settings.until,
            environ=settings.environ,
            clock=clock,
            boot_id=boot_id(),
            origin=settings.origin,
        )
        self.enrolment: Enrolment = enrol(settings, self.deadlines, clock)
        try:
            self._open_enrolled()
        except BaseException:
            self.enrolment.finish(Outcome.FAILED, "the box could not be opened", {})
            raise

    def _open_enrolled(self) -> None:
        enrolment, clock = self.enrolment, self.clock
        self.teller.attach(enrolment.attempt.events)
        for measured in enrolment.earlier:
            self.forecast.learn(measured)
        enrolment.checkpoints.sweep()
        self.restored = load_for(enrolment, self.trainee.translators, self._warn)
        self.saver = Saver(enrolment.checkpoints, clock, self.forecast, self.trainee.translators)
        self.requests = Requests(enrolment.attempt.control(), self.settings.grace_s, clock, self._wake_up)
        self.guard = Guard(self)
        for note in (*self.deadlines.notes, *enrolment.notes, *self.requests.notes):
            self.teller.say_once(note)
        now = clock.monotonic()
        self.pacer = Pacer(
            self.forecast,
            began=now,
            budget_s=self.deadlines.earliest.at - now,
            governed=enrolment.governed,
            leave_s=self._leave_s,
            asked_every_s=self.settings.checkpoint_every_s,
        )
        self.reporter = Reporter(self)
        self.reporter.start()

    def _warn(self, text: str) -> None:
        self.teller.say(text, "warning")

    # -- what users see ----------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        return self.enrolment.run_id

    @property
    def governed(self) -> bool:
        """Whether a governor outside waits for this process to end."""
        return self.enrolment.governed

    @property
    def resumed_from(self) -> str | None:
        return None if self.restored is None else self.restored.info.address

    @property
    def checkpoint(self) -> CheckpointInfo | None:
        if self.saver.newest is not None:
            return self.saver.newest
        return None if self.restored is None else self.restored.info

    @property
    def steps(self) -> int:
        """Steps of this attempt so far, as far as boundaries were told."""
        return self.pacer.steps

    def remaining_s(self) -> float:
        """Seconds to the earliest deadline, never negative."""
        return max(0.0, self.deadlines.earliest.at - self.clock.monotonic())

    def log(self, values: Mapping[str, Any]) -> None:
        """Values of the running step; scalars of any framework, read only when they are shown."""
        self.logged.update(values)

    def weigh(self) -> None:
        """Before training: can the state be stored at all, how large is it, and does its save fit the box?

        Raises:
            UnsavableStateError: a value that cannot be stored without pickle; names where it sits.
        """
        self.saver.take(self.trainee.states())
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
            self.trainee.synchronize()
        now = self.clock.monotonic()
        self.pacer.state_bytes = self.saver.state_bytes
        self.guard.let_finish()
        self._collect_saves()
        self.pacer.passed(now, steps, paused_s=self._obey(now))
        facts = self._act(phase, then)
        if self.leaving is None:
            if not self._reserved and self.pacer.steps >= RESERVE_AFTER_STEPS:
                self._reserved = True
                self.saver.reserve(self.trainee.states())
            self.reporter.progress(now)
            self._arm_guard(facts)
            self.pacer.goes_on(self.clock.monotonic(), phase)
            leaving_soon = self.requests.pending or self.requests.leave is not None
            self.wake = 0.0 if leaving_soon else self.pacer.last_boundary + BLOCK_S
        return self.leaving is not None

    def _obey(self, now: float) -> float:
        """Do what is asked; the seconds of the gap until `now` in which the process was held from outside."""
        machine_slept_s = self.deadlines.notice_sleep(self.clock.asleep_s())
        if machine_slept_s:
            self.teller.say(f"The machine was suspended for {duration_text(machine_slept_s)}.")
        paused_s, extended_s = self.requests.poll(now, self.deadlines, self.teller)
        slept_s = self.requests.slept_s
        if paused_s or extended_s:
            self.deadlines.shift(paused_s + extended_s)
            self.pacer.budget_s += paused_s + extended_s
            self.requests.applied(extended_s)
        return slept_s

    def _facts(self, phase: Phase, then: Phase | None) -> Facts:
        requests = self.requests
        asks = Asks(
            leave=requests.leave,
            save=requests.save_asked,
            window_s=self.trainee.window_rest_s(self.forecast.longest_step_s()),
            save_in_flight=self.saver.busy,
        )
        return self.pacer.facts(self.clock.monotonic(), self.deadlines.earliest, phase, then, asks)

    def _act(self, phase: Phase, then: Phase | None) -> Facts:
        """Decide and do it; the facts that the last decision rested on."""
        facts = self._facts(phase, then)
        verdict = decide(facts)
        if verdict.action is Action.WAIT:
            self.saver.wait()
            self._collect_saves()
            facts = self._facts(phase, then)
            verdict = decide(facts)
        if verdict.action is Action.SAVE_AND_WAIT:
            self._save_now(verdict.reason)
            facts = self._facts(phase, then)
            verdict = decide(facts)
        if self.pacer.fits_no_box_s:
            self.teller.say_once(
                f"What comes next took up to {duration_text(self.pacer.fits_no_box_s)} before: with the save that is more "
                f"than this whole box of {duration_text(self.pacer.budget_s)}. Give it more time.",
                "warning",
            )
        if verdict.action is Action.SAVE:
            self._save_behind(verdict.reason)
        elif verdict.action is Action.STOP:
            self._stop(verdict)
        return facts

    def _stop(self, verdict: Verdict) -> None:
        self.teller.event("stopping", reason=verdict.reason.value, text=verdict.text)
        self.reserve_kept_s = self.deadlines.earliest.at - self.clock.monotonic()
        self.guard.stand_down()
        hurried = self.requests.leave is None and not self.pacer.save_is_worth_trying(self.reserve_kept_s)
        if self.guard.saved_copy and hurried:
            self.teller.say("The step that took too long is left out: its beginning is saved.", "warning")
        elif self.pacer.save_is_hopeless() and self.enrolment.governed:
            self._warn(
                f"No checkpoint is made now: a save takes {duration_text(self.pacer.save_s())}, longer than the box."
            )
        else:
            self._save_now(verdict.reason)
        self.leaving = verdict

    def look(self) -> bool:
        """Inside something longer than a step, such as a validation: whether it has to be left now.

        Nothing is saved or learnt here. Whoever leaves calls `leave` when the state is that of a boundary again.
        """
        now = self.clock.monotonic()
        self._obey(now)
        self._looked = decide(self._facts(Phase.PLAIN, None))
        self.wake = now + BLOCK_S
        return self._looked.action in (Action.STOP, Action.SAVE_AND_WAIT)

    def leave(self, *, save: bool = True) -> None:
        """What `look` asked for: save, and end the attempt.

        Args:
            save: the state is worth it; otherwise the newest checkpoint is what there is.
        """
        seen = self._looked
        if seen.action is not Action.STOP:
            seen = Verdict(
                Action.STOP, SaveReason.DEADLINE, Outcome.TIMEBOXED, "no time is left for the validation"
            )
        if save:
            self._stop(seen)
        else:
            self.guard.stand_down()
            self.leaving = seen

    def leave_at_once(self, why: str, *, save: bool = True) -> None:
        """The loop is being left for a reason of its own (a stop signal killed the loader's workers).

        Args:
            save: the state is that of a boundary; otherwise the newest checkpoint is what there is.
        """
        leave = self.requests.leave or Leave(Outcome.PREEMPTED, why, at_once=True)
        verdict = Verdict(Action.STOP, SaveReason.PREEMPTED, leave.outcome, leave.why)
        if save:
            self._stop(verdict)
        else:
            self.guard.stand_down()
            self.leaving = verdict

    def _arm_guard(self, facts: Facts) -> None:
        """Give the guard the instant at which it must act and, near the deadline, a copy of the state."""
        now = self.clock.monotonic()
        if self.pacer.copy_now(now, facts) and not self.saver.busy:
            try:
                self.guard.keep(self.saver, self.trainee.states(), self.checkpoint_facts(SaveReason.DEADLINE))
            except CheckpointError as error:
                self.teller.say_once(f"The guard has no copy of the state: {error}", "warning")
            else:
                self.pacer.copied(now, self.saver.copy_s)
        self.guard.arm(self.pacer.trigger_at(self.deadlines.earliest.at))

    # -- saving ------------------------------------------------------------------------------------------------

    def checkpoint_facts(self, reason: SaveReason) -> CheckpointFacts:
        """What the manifest is to say of a checkpoint made now."""
        position = self.trainee.position()
        return CheckpointFacts(
            run_id=self.run_id,
            attempt=self.enrolment.attempt.number,
            step=position.step,
            epoch=position.epoch,
            batch=position.batch,
            reason=reason,
            box=self.enrolment.box,
            cursor=position.cursor,
            environment=dict(self.trainee.environment()),
            slack_s=self.deadlines.earliest.at - self.clock.monotonic(),
            extra={"measured": self.forecast.measured()},
        )

    def _save_behind(self, reason: SaveReason) -> None:
        self.guard.give_up_copy()
        try:
            if self.saver.save_behind(self.trainee.states(), self.checkpoint_facts(reason)):
                self.pacer.saved(self.clock.monotonic())
                self.requests.save_asked = False
                self.reporter.put_off()
        except CheckpointError as error:
            self._save_failed(error)

    def _save_now(self, reason: SaveReason) -> None:
        try:
            info = self.saver.save_now(self.trainee.states(), self.checkpoint_facts(reason))
        except CheckpointError as error:
            self._save_failed(error)
        else:
            self.pacer.saved(self.clock.monotonic())
            self.requests.save_asked = False
            self._saved(info)
        self._collect_saves()

    def _collect_saves(self) -> None:
        for result in self.saver.finished():
            if isinstance(result, CheckpointInfo):
                self._saved(result)
            else:
                self._save_failed(result)

    def _saved(self, info: CheckpointInfo) -> None:
        if info.facts.reason in (SaveReason.PERIODIC, SaveReason.REQUESTED):  # the others end the attempt
            self.enrolment.remember(info.address)
        self.teller.event(
            "checkpoint_saved",
            path=info.address,
            step=info.step,
            reason=info.facts.reason.value,
            nbytes=info.nbytes,
            seconds=info.save_s,
        )

    def _save_failed(self, error: CheckpointError) -> None:
        self.pacer.failed(self.clock.monotonic())
        self.teller.event("checkpoint_failed", error=str(error))
        older, kept = self.checkpoint, "There is no older checkpoint."
        if older is not None:
            kept = f"The newest good checkpoint is {older.address},{self.reporter.age(older)}."
        self._warn(f"A checkpoint could not be saved: {error} {kept}")

    # -- closing -----------------------------------------------------------------------------------------------

    def withdraw(self) -> None:
        """Stop without a word on the training, which goes on without a session."""
        self.guard.stand_down()
        self.saver.close()
        self.requests.stop()
        self.guard.stop()
        self.teller.event("session_withdrawn")
        self.enrolment.release()

    def complete(self, steps: int) -> None:
        """The loop ran to its end; it took `steps` since the last boundary. Of several processes all come here."""
        self.pacer.steps += steps
        self.close(Outcome.COMPLETED)

    @property
    def may_leave_by_itself(self) -> bool:
        """Whether a stop signal has come, and no other process waits for this one at the next boundary."""
        return bool(self.requests.signalled)

    def close(self, outcome: Outcome, reason: str = "") -> None:
        """The loop has been left. A loop that ran to its end is saved once more, as `final`."""
        self.guard.stand_down()
        if outcome is Outcome.COMPLETED:
            self._save_now(SaveReason.FINAL)
        try:
            self.saver.close()
            self._collect_saves()
        finally:
            self.requests.stop()
            self.guard.stop()
            self.outcome, self.reason = outcome, reason or (self.leaving.text if self.leaving else "")
            unwritten = self.enrolment.finish(self.outcome, self.reason, self.reporter.end())
            if unwritten:
                self._warn(unwritten)
