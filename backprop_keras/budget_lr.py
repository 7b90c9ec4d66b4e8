"""A learning rate that runs to its end exactly when the budget does, as a callback of `fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from backprop_core.deadline.schedule_shapes import BudgetShape
from backprop_core.errors import UsageError
from backprop_keras.callback import BackpropCallback


class BudgetLR(keras.callbacks.Callback):  # type: ignore[misc]
    """Stretches a learning rate schedule over the time budget of a `BackpropCallback`.

        budget = BackpropCallback("20m")
        model.fit(..., callbacks=[budget, BudgetLR(budget)])

    The learning rate that the model was compiled with is the peak. The share of the budget at every batch is recorded in
    the run: a resume uses the record, and `replay=RUN` (`--replay-schedule RUN`) gives the same learning rates again.
    Linear decay to zero works best under a budget: M. Li, E. Yumer, D. Ramanan, "Budgeted Training", ICLR 2020.

    Args:
        callback: the callback that has the budget.
        warmup: share of the budget in which the learning rate rises, from 0 to less than 1.
        shape: "linear", "cosine", "sqrt", "trapezoid" (constant, then linear over the last fifth), "constant", or a function
            from the share after the warm-up (0 to 1) to a factor.
        name: name of the schedule, if a training has several.
        replay: id of a run, or a file. Its recorded schedule is followed instead of the clock.

    Raises:
        UsageError: a value is not allowed.
    """

    async_safe = True

    def __init__(
        self,
        callback: BackpropCallback,
        warmup: float = 0.05,
        shape: str | Callable[[float], float] = "linear",
        *,
        name: str = "schedule",
        replay: str | None = None,
    ) -> None:
        super().__init__()
        self._shape = BudgetShape(warmup, shape)
        self._callback = callback
        self._name, self._replay = name, replay
        self._token = object()
        self._step = 0
        self._base: float | None = None
        self._begin: float | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """A fit begins with the learning rate that the model was compiled with.

        Raises:
            UsageError: the optimizer has a schedule of its own.
        """
        optimizer = self.model.optimizer
        if isinstance(
            getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule
        ):
            raise UsageError(
                "The optimizer has a learning rate schedule of its own.",
                "Compile the model with a number, or leave out BudgetLR.",
            )
        self._token = object()
        self._step, self._begin = 0, None
        if self._base is None:
            self._base = float(keras.ops.convert_to_numpy(optimizer.learning_rate))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The learning rate of the coming batch."""
        if self._begin is None:
            self._begin = self._share(0)
        share = self._share(self._step)
        self._begin = min(
            self._begin, share
        )  # with --budget-from training the box is put off behind the first step
        factor = self._shape.factor(share, self._begin)
        self._step += 1
        if hasattr(self.model, "jax_state_sync"):  # on JAX the variables are elsewhere during a fit
            self.model.jax_state_sync()
        assert self._base is not None
        self.model.optimizer.learning_rate = self._base * factor

    def _share(self, step: int) -> float:
        return self._callback.progress_at(step, self._name, self._replay, self._token)

    def state_dict(self) -> dict[str, Any]:
        """Batches so far; the schedule itself is recorded in the run."""
        return {"step": self._step, "base": self._base, "begin": self._begin}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind these batches."""
        self._step, self._base, self._begin = state["step"], state["base"], state["begin"]
