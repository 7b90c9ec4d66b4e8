"""`BackpropCallback`: a time budget for `model.fit`."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, Unpack

import keras

from backprop_core.clock import SYSTEM
from backprop_core.deadline.budget import Duration
from backprop_core.session.box_callback import BoxCallback, BoxKeywords, lists_keywords
from backprop_core.session.boxed_training import Teller, begun
from backprop_keras.last_callback import running_fit
from backprop_keras.loader_reading import know_workers_that_stay
from backprop_keras.needs import check_needs
from backprop_keras.training import FitBox


class BackpropCallback(BoxCallback, keras.callbacks.Callback):  # type: ignore[misc]
    """Stops `fit` in time with everything saved, and continues from there: `model.fit(..., callbacks=[BackpropCallback()])`.

    Args:
        budget: "90s", "10m", "1h30m", "00:10:00", a timedelta or a number of seconds; None: 10 minutes, or the box of
            `backprop run`.
        keywords: those of `backprop.timebox`: `until`, `checkpoint_every`, `keep`, `keep_every`, `checkpoint_dir`, `run`,
            `name`, `resume`, `grace`, `strict`.

    Raises:
        UsageError: a value is not allowed. Its subclass BudgetError: a duration is not.
    """

    framework_name = "keras"
    async_safe = True
    """It follows the list of callbacks in the main thread, so Keras may call the others from where it likes."""
    _clock = SYSTEM

    @lists_keywords
    def __init__(self, budget: Duration | None = None, **keywords: Unpack[BoxKeywords]) -> None:
        super().__init__()
        self._set_up(budget, keywords)
        self._box: FitBox | None = None
        know_workers_that_stay()

    def on_train_begin(self, logs: Any = None) -> None:
        """Keras calls this once the data is there, before it decides on the first epoch.

        Raises:
            UsageError, StoreError, CheckpointError: what was asked for cannot be done; nothing was changed.
        """
        self._box = None
        caller = sys._getframe(1)
        self._box = begun(
            lambda: self._opens(lambda: self._begin(caller)), name="keras", attached=self.is_attached
        )

    def _begin(self, caller: FrameType) -> FitBox:
        fit = running_fit(self, caller)
        check_needs(self._model, fit.epoch_iterator, fit.callback_list())
        return FitBox(fit, self._model, self._settings, self._clock)

    def _teller(self) -> Teller | None:
        return None if self._box is None else self._box.box.session
