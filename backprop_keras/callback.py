"""`BackpropCallback`: a time budget for `model.fit`."""

from __future__ import annotations

import sys
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from backprop_core.clock import SYSTEM
from backprop_core.deadline.budget import Duration
from backprop_core.errors import BoxError, StateMismatchError
from backprop_core.outcome import Outcome
from backprop_core.session.attach_rules import give_up
from backprop_core.session.join_run import NotJoinedError
from backprop_core.session.session import Session
from backprop_core.session.settings import DEFAULT_GRACE_S, Resume, attached_settings, make_settings
from backprop_keras.last_callback import running_fit
from backprop_keras.needs import check_needs
from backprop_keras.training import FitBox


class BackpropCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Stops `fit` in time with everything saved, and goes on from there: `model.fit(..., callbacks=[BackpropCallback()])`.

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

    async_safe = True
    """It follows the list of callbacks in the main thread, so Keras may call the others from where it likes."""
    _clock = SYSTEM

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
            framework="keras",
        )
        self._box: FitBox | None = None

    @classmethod
    def attached(cls) -> BackpropCallback:
        """One that the script did not ask for: it leaves the script alone where it cannot help."""
        callback = cls()
        callback._settings = attached_settings("keras")
        return callback

    def on_train_begin(self, logs: Any = None) -> None:
        """Keras calls this once the data is there, before it decides on the first epoch.

        Raises:
            UsageError, StoreError, CheckpointError: what was asked for cannot be done; nothing was changed.
        """
        self._box = None
        try:
            fit = running_fit(self, sys._getframe(1))
            check_needs(self._model, fit.epoch_iterator, fit.callback_list())
            self._box = FitBox(fit, self._model, self._settings, self._clock)
        except NotJoinedError:  # another process of this run trains, and this one was not asked to be boxed
            pass
        except Exception as error:
            if not self._settings.attached or isinstance(error, StateMismatchError):
                raise
            give_up("keras", error)

    def _opened(self) -> Session:
        if self._box is None:
            raise BoxError(
                "This BackpropCallback has not been used in a fit yet.",
                "Pass it to model.fit(callbacks=[...]).",
            )
        return self._box.session

    @property
    def outcome(self) -> Outcome:
        """How the last `fit` ended; `running` while it has not."""
        return Outcome.RUNNING if self._box is None else self._box.session.outcome

    @property
    def checkpoint(self) -> Path | None:
        """The newest committed checkpoint of the run, a folder, or None."""
        info = None if self._box is None else self._box.session.checkpoint
        return None if info is None else Path(info.path)

    @property
    def remaining(self) -> float:
        """Seconds to the deadline, never negative."""
        return self._opened().remaining_s()

    @property
    def progress(self) -> float:
        """The share of the budget that is used, from 0 to 1, over all boxes of a `--total`; 0 before a training begins."""
        return 0.0 if self._box is None else self._box.session.progress()

    def progress_at(
        self, step: int, name: str = "schedule", replay: str | None = None, owner: object = None
    ) -> float:
        """The progress that step `step` of a schedule has, recorded in the run; see `TimeBox.progress_at`."""
        return 0.0 if self._box is None else self._box.session.progress_at(step, name, replay, owner)

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._opened().run_id

    @property
    def resumed_from(self) -> Path | None:
        """The checkpoint that the last `fit` began from, or None."""
        path = None if self._box is None else self._box.session.resumed_from
        return None if path is None else Path(path)
