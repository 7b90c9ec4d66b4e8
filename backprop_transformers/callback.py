"""`BackpropCallback`: a time budget for `Trainer.train`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerCallback

from backprop_core.clock import SYSTEM, Clock
from backprop_core.deadline.budget import Duration
from backprop_core.outcome import Outcome
from backprop_core.session.settings import DEFAULT_GRACE_S, Resume, attached_settings, make_settings
from backprop_transformers.boundaries import TrainBoundaries
from backprop_transformers.needs import check_needs
from backprop_transformers.train_entry import patch_train
from backprop_transformers.training import BoxedTraining


class BackpropCallback(TrainerCallback):
    """Gives `Trainer.train` a time budget: `Trainer(callbacks=[BackpropCallback()])`.

    Args:
        budget: None (10 minutes, or what the governor says), "90s", "10m", "1h30m", "00:10:00", a timedelta, seconds.
        until: a fixed deadline, an aware datetime.
        checkpoint_every: a duration between periodic checkpoints; None: saving takes at most 2% of the time.
        keep: committed checkpoints kept, 2 or more.
        keep_every: besides those, the first checkpoint at or after every multiple of so many steps stays.
        checkpoint_dir: where checkpoints go; None: the run's own folder below $BACKPROP_HOME.
        run: the id of a run to create or continue; None makes one up.
        name: a label for people.
        resume: "auto" (when the governor says so or `run` names an unfinished run), True, False, or a checkpoint's path.
        grace: seconds given to a SIGTERM.
        strict: what changes during training and cannot be kept is an error, and no warning.

    Raises:
        UsageError: a value that cannot be meant; BudgetError among them.
    """

    _clock: Clock = SYSTEM

    def __init__(
        self,
        budget: Duration | None = None,
        *,
        until: datetime | None = None,
        checkpoint_every: Duration | None = None,
        keep: int = 2,
        keep_every: int | None = None,
        checkpoint_dir: str | PathLike[str] | None = None,
        run: str | None = None,
        name: str | None = None,
        resume: Resume = "auto",
        grace: Duration = DEFAULT_GRACE_S,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self._settings = make_settings(
            budget=budget,
            until=until,
            checkpoint_every=checkpoint_every,
            keep=keep,
            keep_every=keep_every,
            checkpoint_dir=checkpoint_dir,
            run=run,
            name=name,
            resume=resume,
            grace=grace,
            strict=strict,
            origin="BackpropCallback",
            framework="transformers",
        )
        self._training: BoxedTraining | None = None
        self._boundaries: TrainBoundaries | None = None
        patch_train(users_callback)

    @classmethod
    def attached(cls) -> BackpropCallback:
        """One that the script did not ask for: it leaves the script alone where it cannot help."""
        callback = cls()
        callback._settings = attached_settings("transformers")
        return callback

    # -- what it tells -----------------------------------------------------------------------------------------

    @property
    def outcome(self) -> Outcome:
        """How the last `train` ended; `running` while it has not."""
        return Outcome.RUNNING if self._training is None else self._training.session.outcome

    @property
    def checkpoint(self) -> Path | None:
        """The newest committed checkpoint of the run, a folder, or None."""
        info = None if self._training is None else self._training.session.checkpoint
        return None if info is None else Path(info.path)

    @property
    def remaining(self) -> float | None:
        """Seconds to the deadline, never negative; None before a training has begun."""
        return None if self._training is None else self._training.session.remaining_s()

    @property
    def progress(self) -> float:
        """The share of the budget that is used, from 0 to 1, over all boxes of a `--total`; 0 before a training begins."""
        return 0.0 if self._training is None else self._training.session.progress()

    def progress_at(
        self, step: int, name: str = "schedule", replay: str | None = None, owner: object = None
    ) -> float:
        """The progress that step `step` of a schedule has, recorded in the run; see `TimeBox.progress_at`."""
        return (
            0.0 if self._training is None else self._training.session.progress_at(step, name, replay, owner)
        )

    @property
    def run_id(self) -> str | None:
        """The id of the run; None before a training has begun."""
        return None if self._training is None else self._training.session.run_id

    @property
    def resumed_from(self) -> Path | None:
        """The checkpoint that this attempt began from, or None."""
        return None if self._training is None else self._training.resumed_from

    # -- where `train` begins ----------------------------------------------------------------------------------------

    @property
    def is_attached(self) -> bool:
        """Whether the script did not ask for it."""
        return self._settings.attached

    @property
    def is_training(self) -> bool:
        """Whether a `train` of this callback's runs now."""
        return self._boundaries is not None

    def begin(self, trainer: Any) -> BoxedTraining:
        """Open the box around a `train` that is about to run.

        Raises:
            UsageError, StoreError: what was asked for cannot be done; nothing was begun.
        """
        check_needs(trainer)
        training = BoxedTraining(self._settings, trainer, self._clock, lenient=self.is_attached)
        training.open()
        self._training = training
        return training

    def run_training(
        self,
        training: BoxedTraining,
        train: Callable[[Any], Any],
        users_checkpoint: Any = None,
        ignored_keys: Any = None,
    ) -> Any:
        """Train inside the box; see `BoxedTraining.run`."""
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
