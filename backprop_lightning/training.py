"""One `Trainer.fit` inside a time box: the first rank, which has the session, decides, saves and talks."""

from __future__ import annotations

from typing import Any

from backprop_core.clock import Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.errors import BackpropError
from backprop_core.session.first_rank import LeadingSession
from backprop_core.session.settings import SessionSettings
from backprop_lightning import slurm
from backprop_lightning.patches import PatchedFit
from backprop_torch.agreement_interval import batches_to_next_talk
from backprop_torch.ranks import Together


class BoxedFit(PatchedFit):
    """The fit of the first rank, or of the only process."""

    def __init__(
        self, settings: SessionSettings, trainer: Any, clock: Clock, ranks: Together | None = None
    ) -> None:
        super().__init__(settings, trainer, clock, ranks)
        self._countdown = 0
        self._validation_talked: float | None = None
        self._apart = 1  # batches of a validation from talk to talk

    # -- the way in --------------------------------------------------------------------------------------------

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
        if not isinstance(self.session, LeadingSession):
            return self.clock.monotonic() >= self.session.wake
        self.session.passes()
        self._countdown -= 1
        return self._countdown <= 0 or self.session.recorder is not None

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        """Tell the session, with what the module has logged; the other ranks are at the same boundary and obey."""
        values = dict(self.trainer._logger_connector._callback_metrics)
        loss = self.outputs.get("loss") if isinstance(self.outputs, dict) else self.outputs
        if loss is not None:
            values.setdefault("loss", loss)
        session = self.session
        session.log(values)
        if isinstance(session, LeadingSession):
            return self._talk(session, steps, phase, then)
        return session.boundary(steps, phase=phase, then=then)

    def _talk(self, session: LeadingSession, steps: int, phase: Phase, then: Phase | None) -> bool:
        began = self.clock.monotonic()
        leave = session.talk(
            phase,
            then,
            lambda talk_s: self._next_talk(session, began, talk_s, phase),
            steps=steps,
            meant=(BackpropError,),
        )
        self._countdown = session.boundaries_to_next_talk
        return leave

    def _next_talk(self, session: LeadingSession, began: float, talk_s: float, phase: Phase) -> int:
        if phase is not Phase.WITHIN_VALIDATION:
            self._validation_talked = None
            self._apart = 1
            return batches_to_next_talk(session, talk_s, self.trainer.accumulate_grad_batches)
        before, self._validation_talked = self._validation_talked, self.clock.monotonic()
        if before is None:
            return 1
        batch_s = (began - before) / max(1, self._apart)
        self._apart = min(2 * self._apart, batches_to_next_talk(session, talk_s, 1, step_s=batch_s))
        return self._apart

    # -- the way out -------------------------------------------------------------------------------------------

    def is_debris(self, error: Exception, *, save: bool = True) -> bool:
        if self.ranks.count > 1 or not (
            self.signalled() and self.training_state.framework.is_stop_debris(error)
        ):
            return False
        self.session.leave_at_once("a stop signal ended the loader's workers", save=save)
        return True

    def mends(self, error: Exception) -> bool:
        """As on every rank; whoever ended the workers has signalled the whole process group, and may not wait for long."""
        mended = super().mends(error)
        if mended:
            self.session.requests.workers_ended()
        return mended

    def signalled(self) -> bool:
        return self.session.requests.signalled
