"""How much of a budget is used, as a share: over one box, or over all boxes of a `--total`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from backprop_core import contract
from backprop_core.clock import Clock


class BudgetProgress:
    """The share of a budget that is used, from 0 to 1. It does not fall, except where time is added.

    Args:
        budget_s: seconds of the whole budget.
        ends_at: the instant on the monotonic clock at which a `--total` is over; None: the budget is that of one box.
    """

    def __init__(self, budget_s: float, ends_at: float | None = None) -> None:
        self.budget_s = budget_s
        self.ends_at = ends_at
        self._highest = 0.0

    def extend(self, seconds: float) -> None:
        """`seconds` were added to the box. A `--total` stays as it is."""
        if seconds and self.ends_at is None:
            self.budget_s += seconds
            self._highest = 0.0

    def share(self, now: float, box_left_s: float, reserve_s: float = 0.0) -> float:
        """The share at `now`; 1 from where the reserve begins, because no step is taken after that.

        Args:
            now: on the monotonic clock.
            box_left_s: seconds to the deadline of this box.
            reserve_s: seconds at the end of the budget that are kept back for the save and the exit. It is a forecast, and
                of a short box at most half of what is left is taken for it.
        """
        left_s = box_left_s if self.ends_at is None else self.ends_at - now
        reserve_s = min(reserve_s, max(0.0, left_s) / 2)
        usable_s = self.budget_s - reserve_s
        share = 1.0 if usable_s <= 0 else 1.0 - (left_s - reserve_s) / usable_s
        self._highest = min(1.0, max(self._highest, share, 0.0))
        return self._highest


def budget_progress(budget_s: float, environ: Mapping[str, str], clock: Clock) -> BudgetProgress:
    """That of a box of `budget_s` seconds, or of the `--total` that it is a part of."""
    try:
        total_s, until = float(environ[contract.TOTAL_S]), float(environ[contract.TOTAL_UNTIL_WALL])
    except (KeyError, ValueError):
        return BudgetProgress(budget_s)
    if not (math.isfinite(total_s) and math.isfinite(until)) or total_s <= 0:
        return BudgetProgress(budget_s)
    return BudgetProgress(total_s, clock.monotonic() + until - clock.wall())
