"""`BackpropCallback`: a time budget for `Trainer.train`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from transformers.trainer_callback import TrainerCallback

from backprop_core.clock import SYSTEM, Clock
from backprop_core.deadline.budget import Duration
from backprop_core.session.box_callback import BoxCallback, BoxKeywords, lists_keywords
from backprop_core.session.boxed_training import Teller
from backprop_transformers.boundaries import TrainBoundaries
from backprop_transformers.needs import check_needs
from backprop_transformers.train_entry import patch_train
from backprop_transformers.training import TrainBox


class BackpropCallback(BoxCallback, TrainerCallback):
    """Gives `Trainer.train` a time budget: `Trainer(callbacks=[BackpropCallback()])`.

    Args:
        budget: "90s", "10m", "1h30m", "00:10:00", a timedelta or a number of seconds; None: 10 minutes, or the box of
            `backprop run`.
        keywords: those of `backprop.timebox`: `until`, `checkpoint_every`, `keep`, `keep_every`, `checkpoint_dir`, `run`,
            `name`, `resume`, `grace`, `strict`.

    Raises:
        UsageError: a value is not allowed. Its subclass BudgetError: a duration is not.
    """

    framework_name = "transformers"
    _clock: Clock = SYSTEM

    @lists_keywords
    def __init__(self, budget: Duration | None = None, **keywords: Unpack[BoxKeywords]) -> None:
        super().__init__()
        self._set_up(budget, keywords)
        self._training: TrainBox | None = None
        self._boundaries: TrainBoundaries | None = None
        patch_train(users_callback)

    def _teller(self) -> Teller | None:
        return None if self._training is None else self._training.session

    # -- where `train` begins ----------------------------------------------------------------------------------------

    @property
    def is_training(self) -> bool:
        """Whether a `train` of this callback's runs now."""
        return self._boundaries is not None

    def begin(self, trainer: Any) -> TrainBox:
        """Open the box around a `train` that is about to run.

        Raises:
            UsageError, StoreError: what was asked for cannot be done; nothing was begun.
        """
        check_needs(trainer)
        self._training = None
        training = TrainBox(self._settings, trainer, self._clock, lenient=self.is_attached)
        self._opens(training.open)
        self._training = training
        return training

    def run_training(
        self,
        training: TrainBox,
        train: Callable[[Any], Any],
        users_checkpoint: Any = None,
        ignored_keys: Any = None,
    ) -> Any:
        """Train inside the box; see `TrainBox.run`."""
        self._boundaries = training.patches.boundaries
        try:
            return training.run(train, users_checkpoint, ignored_keys)
        finally:
            self._boundaries = None

    # -- Trainer's hooks ---------------------------------------------------------------------------------------

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Batches are counted from here."""
        if self._boundaries is not None:
            self._boundaries.faults.run(self._boundaries.epoch_begins)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A batch inside an accumulation window."""
        if self._boundaries is not None:
            self._boundaries.faults.run(self._boundaries.batch_trained, False)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The last batch of a window: an optimizer step was taken."""
        if self._boundaries is not None:
            self._boundaries.faults.run(self._boundaries.batch_trained, True)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A long evaluation can be left in time."""
        if self._boundaries is not None:
            self._boundaries.faults.run(self._boundaries.batch_evaluated)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """The losses, for the progress."""
        if self._boundaries is not None and self._training is not None and logs:
            self._training.session.log({key: logs[key] for key in ("loss", "eval_loss") if key in logs})


def users_callback(trainer: Any) -> BackpropCallback | None:
    """The BackpropCallback that the script has given to its Trainer."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, BackpropCallback):
            return callback
    return None
