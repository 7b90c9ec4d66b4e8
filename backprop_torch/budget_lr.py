"""A learning rate that runs to its end exactly when the budget does."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from backprop_core.deadline.schedule_shapes import BudgetShape
from backprop_core.errors import BackpropError
from backprop_core.session.rank_patience import Patience
from backprop_torch.rank_group import RankGroup
from backprop_torch.ranks import knows_ranks


class Budget(Protocol):
    """A `TimeBox` or a `BackpropCallback`."""

    def progress_at(
        self, step: int, name: str = "schedule", replay: str | None = None, owner: object = None
    ) -> float: ...


class BudgetLR(LRScheduler):
    """Stretches a learning rate schedule over the time budget, whatever the machine's speed.

        box = backprop.timebox("20m", model=model, optimizer=optimizer)
        scheduler = BudgetLR(optimizer, box)   # scheduler.step() after every optimizer.step()

    Call `step` after each optimizer step, not after each epoch. The share of the budget at every step is recorded in the
    run: a resume uses the record, and `replay=RUN` (`--replay-schedule RUN`) gives the same learning rates again.
    Linear decay to zero works best under a budget: M. Li, E. Yumer, D. Ramanan, "Budgeted Training", ICLR 2020.

    Args:
        optimizer: the optimizer; its learning rates are the peak of the schedule.
        box: a time box or a BackpropCallback, before or after it is entered.
        warmup: share of the budget in which the learning rate rises, from 0 to less than 1.
        shape: "linear", "cosine", "sqrt", "trapezoid" (constant, then linear over the last fifth), "constant", or a function
            from the share after the warm-up (0 to 1) to a factor.
        name: name of the schedule, if a training has several.
        replay: id of a run, or a file. Its recorded schedule is followed instead of the clock.

    Raises:
        UsageError: a value is not allowed, or `replay` holds no record.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        box: Budget,
        warmup: float = 0.05,
        shape: str | Callable[[float], float] = "linear",
        *,
        name: str = "schedule",
        replay: str | None = None,
    ) -> None:
        self._shape = BudgetShape(warmup, shape)
        self._box = box
        self._name, self._replay = name, replay
        self._token = object()
        self._begin: float | None = None
        self._group: RankGroup | None = None
        track = getattr(box, "track", None)
        super().__init__(optimizer)
        if track is not None:
            track(**{name: self})

    def get_lr(self) -> list[float | torch.Tensor]:
        """The learning rates of the next step."""
        if self.last_epoch <= 0:
            factor = self._shape.factor(0.0)
        else:
            begin, share = self._agreed()
            factor = self._shape.factor(share, begin)
        return [base * factor for base in self.base_lrs]

    def _agreed(self) -> tuple[float, float]:
        """The share of the budget at the first step and at this one, the same on every rank: the first reads the clock."""
        if not knows_ranks():
            return self._shares()
        if self._group is None:
            self._group = RankGroup()
            self._group.goes_on = Patience(self._is_over).lasts
        given = (math.nan, math.nan)
        error: BackpropError | None = None
        if dist.get_rank() == 0:
            try:
                given = self._shares()
            except BackpropError as raised:
                error = raised
        numbers = self._group.first_says(list(struct.unpack("=2q", struct.pack("=2d", *given))))
        if error is not None:
            raise error
        begin, share = struct.unpack("=2d", struct.pack("=2q", *numbers))
        if math.isnan(share):
            raise RuntimeError("The first process could not send the learning rate: see its message.")
        return begin, share

    def _is_over(self) -> bool:
        remaining_s: float = getattr(self._box, "remaining", math.inf)
        return remaining_s <= 0

    def _shares(self) -> tuple[float, float]:
        if self._begin is None:
            self._begin = self._box.progress_at(0, self._name, self._replay, self._token)
        share = self._box.progress_at(self.last_epoch, self._name, self._replay, self._token)
        self._begin = min(
            self._begin, share
        )  # with --budget-from training the box is put off behind the first step
        return self._begin, share

    def state_dict(self) -> dict[str, Any]:
        """Steps so far; the schedule itself is recorded in the run."""
        return {
            "last_epoch": self.last_epoch,
            "step_count": self._step_count,
            "base_lrs": list(self.base_lrs),
            "last_lr": [float(rate) for rate in self._last_lr],
            "begin": self._begin,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after these steps."""
        self.last_epoch = state_dict["last_epoch"]
        self._step_count = state_dict["step_count"]
        self.base_lrs = list(state_dict["base_lrs"])
        self._last_lr = list(state_dict["last_lr"])
        self._begin = state_dict["begin"]
