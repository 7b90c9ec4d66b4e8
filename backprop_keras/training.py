"""One `fit` inside a time box: Keras' hooks in, session calls out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from backprop_core import contract
from backprop_core.clock import Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.outcome import Outcome
from backprop_core.session.boxed_training import BoxedTraining
from backprop_core.session.own_faults import OwnFaults
from backprop_core.session.session import Session
from backprop_core.session.settings import SessionSettings
from backprop_keras.backends import active
from backprop_keras.building import is_built
from backprop_keras.callback_states import training_goes_on
from backprop_keras.guarded_listener import GuardedListener
from backprop_keras.last_callback import FitArguments, take_seat, when_all_have_begun
from backprop_keras.training_state import FitState

_ABSENT = object()
LEAVE_S = 0.1
"""The other callbacks' on_train_end and Keras' own last words, seconds."""
GOVERNED_LEAVE_S = 0.15
"""The same under a governor. Measured in 30 boxes: 0.002 s, 0.15 s at worst. JAX's exit handlers, which come behind it, take
up to 0.3 s on a busy machine, longer than the core expects before it has seen an exit of this run.
"""


class FitBox:
    """Follows one `fit` to its end, or ends it. Implements `FitListener`.

    Attributes:
        session: the engine.
        box: its one end.
        skipping: batches are taken that were trained before the checkpoint.
    """

    def __init__(self, fit: FitArguments, model: Any, settings: SessionSettings, clock: Clock) -> None:
        self._fit, self._model, self._now = fit, model, clock.monotonic
        self._fit_state = FitState(model, fit)
        governed = bool(settings.environ.get(contract.RUN_DIR))
        leave_s = GOVERNED_LEAVE_S if governed else LEAVE_S
        self.session = Session(settings, self._fit_state, clock=clock, leave_s=leave_s)
        self.box = BoxedTraining(self.session, self._give_back)
        self._fit_state.say = self.session.messages.say_once
        self.skipping = False
        self._ending = self._leaving_validation = False
        self._awaits_first_epoch = True
        self._is_midway = False
        self._fit_state.data.source.held.early = self._restore_midway
        self._pending = 0
        self._set_aside: dict[str, Any] = {}
        self._leave_seat: Callable[[], None] = lambda: None
        self.faults = OwnFaults(self._step_aside, meant=lambda: False)
        self.box.open()
        try:
            if self.session.restored is not None:
                self._fit_state.meet(self.session.restored)
                self._set_first_epoch()
        except BaseException as error:
            self.box.ended(error)
            raise
        when_all_have_begun(fit.callback_list(), self._all_have_begun)
        if self.session.restored is not None:
            self.faults.restoring = f"Checkpoint {self.session.resumed_from}"
        self._leave_seat = take_seat(fit.callback_list(), GuardedListener(self, self.faults))

    # -- what is changed on the model while it trains --------------------------------------------------------------

    def _set(self, name: str, value: Any) -> None:
        """Change an attribute of the model until `_put_back`, past Keras' tracking."""
        self._set_aside.setdefault(name, vars(self._model).get(name, _ABSENT))
        vars(self._model)[name] = value

    def _all_have_begun(self) -> None:
        """Every callback's `on_train_begin` is over, and no epoch has begun."""
        self._fit_state.script.begin()
        if self.session.restored is not None:
            self._set_first_epoch()
            self._fit_state.replay_source(self.session.restored)
            self._fit_state.restore_script(self.session.restored, midway=False)

    def _set_first_epoch(self) -> None:
        """BackupAndRestore sets it, too: here what is restored decides, wherever the two stand among the callbacks."""
        self._set("_initial_epoch", self._fit_state.epoch or None)

    def _put_back(self, *names: str) -> None:
        for name in names or tuple(self._set_aside):
            value = self._set_aside.pop(name, None)
            if value is _ABSENT:
                vars(self._model).pop(name, None)
            else:
                vars(self._model)[name] = value

    # -- hooks ---------------------------------------------------------------------------------------------------

    def epoch_begun(self, epoch: int) -> None:
        first, self._awaits_first_epoch = self._awaits_first_epoch, False
        restored = self.session.restored
        if not first:
            self._fit_state.epoch_begins(epoch)
        elif restored is None:
            self._fit_state.epoch_begins(epoch)
            if is_built(self._model):
                self.session.weigh()
                if self.session.boundary(0):
                    self._end()
                    self._set("train_function", self._train_nothing)
        else:
            self._put_back("_initial_epoch")
            self._fit_state.script.note_touched()
            self._fit_state.restore(restored, training=True)
            self.session.weigh()
            if not self._fit_state.data.to_pass:
                self.faults.restoring = None
                self.session.arrived()
            else:
                self.skipping = True
                self._set("train_function", self._pass_over)

    def batch_begun(self) -> None:
        self._fit_state.data.batch_begins()

    def batch_ended(self, batch: int, logs: Any) -> None:
        fit_state = self._fit_state
        if self.skipping or self._ending:
            if self.skipping and not fit_state.data.to_pass:
                self.skipping, self.faults.restoring = False, None
                self._passed_over()
            return
        fit_state.batch, fit_state.logs = batch + 1, logs or {}
        fit_state.script.is_built()
        self._pending += 1
        if self._now() >= self.session.wake or fit_state.batch >= fit_state.edge:
            self._boundary()

    def _boundary(self) -> None:
        if self._model.stop_training:  # another callback ends the training here: this is not an interruption
            return
        fit_state, pending, self._pending = self._fit_state, self._pending, 0
        self.session.log(fit_state.logs)
        phase = self._coming()
        if self.session.boundary(pending, phase=phase):
            self._end()

    def _coming(self) -> Phase:
        """What lies between this boundary and the next."""
        fit_state = self._fit_state
        if fit_state.batch < fit_state.edge:
            return Phase.PLAIN
        validates = fit_state.validates_now()
        fit_state.hold_place(validates=validates)
        return Phase.VALIDATION if validates else Phase.EPOCH_END

    def validation_begun(self) -> None:
        self._fit_state.hold()
        self._fit_state.data.validation_begins(getattr(self._model, "_eval_epoch_iterator", None))

    def validation_batch_ended(self) -> None:
        session = self.session
        if self._now() < session.wake or self._ending or self._model.stop_training:
            return
        if session.look():
            self._leaving_validation = True
            self._model.stop_training = self._model.stop_evaluating = True

    def epoch_is_over(self, epoch: int) -> bool:
        if self._leaving_validation and not self._ending:
            self.session.leave()
            self._end()
        return not self._ending

    def epoch_ended(self, epoch: int) -> None:
        self._fit_state.data.validation_ended()
        self._fit_state.epoch_is_done()
        if epoch + 1 < self._fit.epochs and not self._model.stop_training:
            pending, self._pending = self._pending, 0
            if self.session.boundary(pending):
                self._model.stop_training = True
                self._ending = True

    def training_is_over(self) -> AbstractContextManager[None]:
        if self._awaits_first_epoch and self.session.restored is not None:  # there was nothing left to train
            self._awaits_first_epoch = False
            self._fit_state.restore(self.session.restored, training=False)
            self.faults.restoring = None
        return training_goes_on(self._fit.callbacks) if self._ending else nullcontext()

    def training_ended(self) -> None:
        if self.session.leaving is None:
            self.box.completed()
        else:
            self.box.left()

    def abandoned(self) -> None:
        self.box.close(Outcome.FAILED, "an exception ended fit")

    # -- ends ----------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Let `fit` come to its end from here: no further batch, no validation, no end of the epoch."""
        self._ending = True
        self._model.stop_training = True
        self._set("_should_eval", lambda epoch, validation_freq: False)

    def _step_aside(self, error: Exception) -> None:
        """A fault of our own: Keras trains on alone."""
        self.box.step_aside(error)

    def _give_back(self) -> None:
        self._fit_state.data.source.held.go_on()
        self._leave_seat()
        self._put_back()

    # -- in place of the model's train function ------------------------------------------------------------------

    def _pass_over(self, *arguments: Any) -> Any:
        """Takes the batches of one execution and does nothing with them."""
        data = self._fit_state.data
        active().skip(arguments, data.executions)
        if data.passed_one():
            self._put_back("train_function")
            if data.exhausted:
                self._set("train_function", self._run_out)
        return active().answer(arguments, self._fit_state.logs)

    def _passed_over(self) -> None:
        """The next batch is new. If there is none, the epoch's end follows: it may not fit into this box either."""
        fit_state = self._fit_state
        if (
            self.session.restored is not None
        ):  # the others have been told of the batches that were passed over
            self._restore_midway()
            self.session.arrived()
        if fit_state.batch >= fit_state.edge:
            self._boundary()

    def _restore_midway(self) -> None:
        """The state of the script at the very batch, once; its source of batches has waited for that."""
        if self.session.restored is not None and not self._is_midway:
            self._is_midway = True
            self._fit_state.restore_script(self.session.restored, midway=True)
        self._fit_state.data.source.held.go_on()

    def _run_out(self, *arguments: Any) -> Any:
        self._put_back("train_function")
        raise StopIteration

    def _train_nothing(self, *arguments: Any) -> Any:
        return active().answer(arguments, {})
