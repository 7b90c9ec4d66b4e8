"""Trainer's loop with boundaries in it.

Behind each optimizer step, and once more behind each epoch, Trainer calls one method that logs, evaluates and saves as far
as they are due. In its place, a boundary lies before an evaluation or a save of Trainer's own, so that training can stop
there and the next attempt begins with it; and one lies behind it, where every hook has run and nothing is pending.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from transformers.trainer import Trainer

from backprop_core.clock import Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.session.own_faults import OwnFaults
from backprop_core.session.session import Session
from backprop_transformers.training_state import Stage, TrainState, running_loss

_OF_STEP = ("grad_norm", "learning_rate")


class LeaveEvaluation(BaseException):
    """Leaves an evaluation that would not end in time. Not an Exception, so that nobody's `except Exception` eats it."""


class TrainBoundaries:
    """The boundaries of one `train`.

    Args:
        original: Trainer's own `_maybe_log_save_evaluate`.
        faults: what runs our part.

    Attributes:
        ending: everything is saved and Trainer is to come to its end.
        epoch_ends: Trainer's `on_epoch_end` has been called, and no epoch has begun since.
    """

    def __init__(
        self,
        session: Session,
        train_state: TrainState,
        clock: Clock,
        original: Callable[..., None],
        faults: OwnFaults,
    ) -> None:
        self.faults = faults
        self._session = session
        self._train_state = train_state
        self._trainer = train_state.trainer
        self._now = clock.monotonic
        self._original = original
        self._names = tuple(inspect.signature(Trainer._maybe_log_save_evaluate).parameters)[1:]
        self._pending = 0
        self._resumed_pending = False
        self._best: str | None = None
        self.ending = False
        self.epoch_ends = False

    # -- what the callback tells -------------------------------------------------------------------------------

    def epoch_begins(self) -> None:
        """An epoch begins: the next, unless a resumed one has been announced."""
        train_state = self._train_state
        train_state.epoch, train_state.batch, train_state.stage = train_state.epoch + 1, 0, Stage.STEP
        self.epoch_ends = False

    def batch_trained(self, step: bool) -> None:
        """A batch went through; with `step`, an optimizer step was taken."""
        self._train_state.batch += 1
        self._train_state.stage = Stage.STEP
        self._pending += step

    def batch_evaluated(self) -> None:
        """Between two batches of an evaluation: leave if the rest of it no longer fits.

        Raises:
            LeaveEvaluation: it does not.
        """
        session = self._session
        if self._train_state.frozen and self._now() >= session.wake and session.look():
            raise LeaveEvaluation

    # -- in place of Trainer's method --------------------------------------------------------------------------

    def log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """As Trainer's own, with boundaries."""
        if self.ending:
            return
        train_state, control = self._train_state, self._trainer.control
        given, kwargs = self._completed(args, kwargs)
        if not (control.should_evaluate or control.should_save):
            self._original(*given, **kwargs)
        else:
            self._log_before(given, kwargs)
            evaluates = self._trainer.control.should_evaluate
            train_state.stage = Stage.EPOCH_PENDING if self.epoch_ends else Stage.STEP_PENDING
            resumed, self._resumed_pending = self._resumed_pending, False
            if not resumed and self._told(Phase.VALIDATION if evaluates else Phase.EPOCH_END):
                return
            self._evaluate_and_save(given, kwargs)
        self._behind()

    def _behind(self) -> None:
        """All that belonged to the step, or to the epoch, is done."""
        if self.ending:
            return
        train_state, control = self._train_state, self._trainer.control
        train_state.stage = Stage.BETWEEN if self.epoch_ends else Stage.STEP
        if control.should_training_stop:  # it ends by itself: this is not an interruption
            return
        if self.epoch_ends or (
            self._now() >= self._session.wake and not (self.epoch_is_over() or control.should_epoch_stop)
        ):
            self._told(Phase.PLAIN)

    def epoch_is_over(self) -> bool:
        """Whether the step was the epoch's last, as far as the loader knows: then the epoch's end follows at once."""
        loader = self._train_state.loader
        return loader is not None and (
            self._train_state.batch >= loader.length()
            or (self._train_state.batch > 0 and loader.pass_is_over())
        )

    def _completed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """With values of the newest step: at the end of an epoch that was resumed there, Trainer does not know them."""
        values, given = self._train_state.step_values, list(args)
        for name in _OF_STEP:
            index = self._names.index(name) if name in self._names else len(given)
            known = given[index] if index < len(given) else kwargs.get(name)
            if not self.epoch_ends:
                values[name] = known
            elif known is None and index < len(given):
                given[index] = values.get(name)
            elif known is None and name in self._names:
                kwargs[name] = values.get(name)
        return given, kwargs

    def _log_before(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        """What is logged is logged before the boundary, so that nobody's log gets it twice."""
        control = self._trainer.control
        if not control.should_log:
            return
        evaluate, save = control.should_evaluate, control.should_save
        control.should_evaluate = control.should_save = False
        self._original(*args, **kwargs)
        control = self._trainer.control
        control.should_evaluate, control.should_save = evaluate, save

    def _evaluate_and_save(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.faults.run(self._train_state.freeze)
        try:
            self._original(*args, **kwargs)
        except LeaveEvaluation:
            train = getattr(self._trainer.optimizer, "train", None)
            if callable(train):
                train()  # optimizers that average evaluate with other weights than they train
            self._session.leave()
            self.end()
        finally:
            self._train_state.thaw()

    def _told(self, phase: Phase) -> bool:
        """Whether training is to be left; nothing of ours but that reaches Trainer."""
        return bool(self.faults.run(self._boundary, phase, otherwise=False))

    def _boundary(self, phase: Phase) -> bool:
        loss = running_loss(self._trainer)
        if loss is not None:
            self._session.log({"loss": loss})
        pending, self._pending = self._pending, 0
        if self._session.boundary(pending, phase=phase):
            self.end()
        return self.ending

    def steps_untold(self) -> int:
        """Training is over: behind so many of its last steps there was no boundary."""
        pending, self._pending = self._pending, 0
        return pending

    # -- resuming ----------------------------------------------------------------------------------------------

    def resumes_at_epoch_end(self) -> None:
        """The next call finds what was due when the last attempt ended: it is done without being decided again."""
        self._resumed_pending = True

    def run_pending(self, values: dict[str, Any]) -> None:
        """What was due behind the step when the last attempt ended.

        Args:
            values: for the parameters of Trainer's method, by name.
        """
        known = {**values, **self._train_state.step_values}
        self._evaluate_and_save([], {name: known.get(name) for name in self._names})
        self._behind()

    # -- the way out -------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Everything is saved: let Trainer come to its end, with no further step, log, evaluation, save or best model."""
        self.ending = True
        trainer = self._trainer
        trainer.control.should_training_stop = True
        self._best, trainer.state.best_model_checkpoint = trainer.state.best_model_checkpoint, None

    def ended(self) -> None:
        """Trainer is through with best model and old checkpoints: its state is whole again."""
        if self.ending:
            self._trainer.state.best_model_checkpoint = self._best
