"""Shapes of a learning rate over a budget: the share of the budget in, a factor for the learning rate out.

That a schedule should be stretched over the budget, and that a linear decay to zero does best there: M. Li, E. Yumer,
D. Ramanan, "Budgeted Training: Rethinking Deep Neural Network Training Under Resource Constraints", ICLR 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from backprop_core.errors import UsageError

Shape = Callable[[float], float]
"""From the share of the budget behind the warm-up (0 to 1) to a factor."""

FIRST_FACTOR = 0.01
"""Where a warm-up begins: a first step at zero would be wasted."""

SHAPES: Mapping[str, Shape] = {
    "linear": lambda share: 1.0 - share,
    "cosine": lambda share: 0.5 * (1.0 + math.cos(math.pi * share)),
    "sqrt": lambda share: 1.0 - math.sqrt(share),
    "trapezoid": lambda share: min(1.0, (1.0 - share) / 0.2),
    "constant": lambda share: 1.0,
}


class BudgetShape:
    """A warm-up and a shape.

    Args:
        warmup: share of the budget over which the factor rises to 1.
        shape: one of `SHAPES`, or a function of the share.

    Raises:
        UsageError: a value that cannot be meant.
    """

    def __init__(self, warmup: float, shape: str | Shape) -> None:
        if isinstance(warmup, bool) or not isinstance(warmup, int | float) or not 0.0 <= warmup < 1.0:
            raise UsageError(
                f"warmup={warmup!r} is not a share of the budget.",
                "Give a number from 0 to less than 1, such as 0.05.",
            )
        if not callable(shape) and shape not in SHAPES:
            known = ", ".join(f'"{name}"' for name in SHAPES)
            raise UsageError(
                f"shape={shape!r} is not known.", f"Use {known}, or a function from 0..1 to a factor."
            )
        self._warmup = float(warmup)
        self._shape = shape if callable(shape) else SHAPES[shape]

    def factor(self, progress: float, begin: float = 0.0) -> float:
        """The factor for the learning rate.

        Args:
            progress: share of the budget that is used.
            begin: the share that was used before the first step: starting up is no part of the schedule.
        """
        share = 1.0 if begin >= 1.0 else min(1.0, max(0.0, (progress - begin) / (1.0 - begin)))
        if share < self._warmup:
            return FIRST_FACTOR + (1.0 - FIRST_FACTOR) * share / self._warmup
        return float(self._shape((share - self._warmup) / (1.0 - self._warmup)))
