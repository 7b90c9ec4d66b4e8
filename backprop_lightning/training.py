"""One `Trainer.fit` inside a time box: the first rank, which has the session, decides, saves and talks."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import Any

from backprop_core.clock import SYSTEM, Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.errors import BackpropError
from backprop_core.outcome import Outcome
from backprop_core.session.rank_talk import Opening
from backprop_core.session.ranks_error import RankError, described
from backprop_core.session.scripts_checkpoint import ScriptsCheckpoint
from backprop_core.session.session import Session
from backprop_core.session.settings import SessionSettings
from backprop_lightning import slurm
from backprop_lightning.patches import PatchedFit
from backprop_torch.agreement_interval import batches_to_next_talk
from backprop_torch.ranks import Alone, Together

LEAVE_S = 0.15
"""Lightning's own tear-down: workers of loaders, loggers."""


class BoxedFit(PatchedFit):
    """The session of one fit.

    Attributes:
        session: the engine.
    """

    def __init__(
        self, settings: SessionSettings, trainer: Any, clock: Clock = SYSTEM, ranks: Together | None = None
    ) -> None:
        super().__init__(trainer, ranks or Alone(), clock)
        self._together = ranks
        self.session = Session(settings, self.training_state, clock=clock, leave_s=LEAVE_S)
        self.training_state.warn = self.tell
        self._countdown = 0
        self._validation_talked: float | None = None
        self._apart = 1  # batches of a validation from talk to talk
        self._closed = False

    # -- what it tells -----------------------------------------------------------------------------------------

    @property
    def outcome(self) -> Outcome:
        return self.session.outcome

    @property
    def checkpoint(self) -> Path | None:
        info = self.session.checkpoint
        return None if info is None else info.path

    @property
    def run_id(self) -> str:
        return self.session.run_id

    @property
    def resumed_from(self) -> Path | None:
        path = self.session.resumed_from
        return None if path is None else Path(path)

    @property
    def governed(self) -> bool:
        return self.session.enrolment.governed

    def remaining_s(self) -> float:
        return self.session.remaining_s()

    def progress(self) -> float:
        return self.session.progress()

    def progress_at(self, step: int, name: str, replay: str | None, owner: object = None) -> float:
        return self.session.progress_at(step, name, replay, owner)

    def restored(self) -> Any:
        return self.session.restored

    def begins_with(self, theirs: ScriptsCheckpoint) -> None:
        self.session.begins_with(theirs)

    def tell(self, text: str) -> None:
        self.session.messages.say(text, "warning")

    # -- the way in --------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the session, tell the other ranks, and wait for Lightning to come by.

        Raises:
            UsageError, StoreError: as `Session.open`; the other ranks are told.
        """
        try:
            self.session.open()
        except Exception as error:
            if self._together is not None:
                self._together.share(Opening(error=str(error) or type(error).__name__))
            raise
        atexit.register(self._forgotten)
        if self._together is not None:
            until = self.clock.wall() + self.remaining_s()
            session = self.session
            self._together.share(
                Opening(
                    resumed_from=session.resumed_from,
                    run_id=self.run_id,
                    until=until,
                    governed=self.governed,
                    budget_s=session.deadlines.budget_s,
                )
            )
            if why := self._together.agree(""):
                self.close(Outcome.FAILED, why)
                raise RankError(f"The box was not opened. {why}")
        self.faults.run(self.patch)

    def rest(self) -> None:
        self.session.requests.rest()

    def listen(self, users: Any) -> None:
        requests = self.session.requests
        requeues = slurm.requeue_signal(self.trainer)
        if requeues is not None:
            self.session.messages.say_once(slurm.who_saves(requeues))
        for note in requests.listen():
            ours = not callable(users) and "SIGTERM" in note  # Lightning's would only end the fit, unsaved
            if not ours and (requeues is None or requeues.name not in note):
                self.session.messages.say_once(note)

    # -- boundaries --------------------------------------------------------------------------------------------

    def due(self) -> bool:
        if self._together is None:
            return self.clock.monotonic() >= self.session.wake
        self._countdown -= 1
        return self._countdown <= 0 or self.session.recorder is not None

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        """Tell the session, with what the module has logged; the other ranks are at the same boundary and obey."""
        values = dict(self.trainer._logger_connector._callback_metrics)
        loss = self.outputs.get("loss") if isinstance(self.outputs, dict) else self.outputs
        if loss is not None:
            values.setdefault("loss", loss)
        self.session.log(values)
        if self._together is None:
            return self.session.boundary(steps, phase=phase, then=then)
        return self._boundary_together(self._together, steps, phase, then)

    def _boundary_together(self, ranks: Together, steps: int, phase: Phase, then: Phase | None) -> bool:
        began = self.clock.monotonic()
        requests = self.session.requests
        number = ranks.hear(int(requests.heard or 0))
        talked_s = self.clock.monotonic() - began
        if number:
            requests.hear_of(number)
        try:
            leave = self.session.boundary(steps, phase=phase, then=then)
        except BaseException as error:
            if isinstance(error, BackpropError) or not isinstance(error, Exception):  # meant: the fit is left
                ranks.release(True, 0, Outcome.FAILED)
            else:
                ranks.step_aside(described(error))
                self.others_know = True
            raise
        self._countdown = self._next_talk(began, talked_s, phase)
        ranks.release(leave, self._countdown, self.leaving_outcome())
        return leave

    def _next_talk(self, began: float, talked_s: float, phase: Phase) -> int:
        if phase is not Phase.WITHIN_VALIDATION:
            self._validation_talked = None
            self._apart = 1
            return batches_to_next_talk(self.session, talked_s, self.trainer.accumulate_grad_batches)
        before, self._validation_talked = self._validation_talked, self.clock.monotonic()
        if before is None:
            return 1
        batch_s = (began - before) / max(1, self._apart)
        self._apart = min(2 * self._apart, batches_to_next_talk(self.session, talked_s, 1, step_s=batch_s))
        return self._apart

    def took(self, phase: Phase, seconds: float) -> None:
        self.session.forecast.phases[phase].observe(seconds)

    def arrived(self) -> None:
        self.session.arrived()

    # -- the way out -------------------------------------------------------------------------------------------

    def completed(self) -> None:
        if self._together is not None:
            self._together.hear(0)  # the others are here, too, and take part in the last save
        try:
            self.close(Outcome.COMPLETED, "")
        finally:
            if self._together is not None:
                self._together.release(True, 0, Outcome.COMPLETED)

    def is_debris(self, error: Exception, *, save: bool = True) -> bool:
        if self._together or not (self.signalled() and self.training_state.framework.is_stop_debris(error)):
            return False
        self.session.leave_at_once("a stop signal ended the loader's workers", save=save)
        return True

    def signalled(self) -> bool:
        return self.session.requests.signalled

    def least(self, number: int) -> int:
        return number if self._together is None else self._together.least(number)

    def leaving_outcome(self) -> Outcome:
        leaving = self.session.leaving
        return Outcome.PREEMPTED if leaving is None else leaving.outcome

    def close(self, outcome: Outcome, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._forgotten)
        self.unpatch()
        self.session.close(outcome, reason)

    def step_aside(self, error: Exception) -> None:
        self._closed = True
        atexit.unregister(self._forgotten)
        self.session.step_aside(error)

    def _forgotten(self) -> None:
        """The process ends and Lightning never came back: the record gets its end all the same."""
        self.close(Outcome.FAILED if self.session.leaving is None else self.leaving_outcome(), "")
