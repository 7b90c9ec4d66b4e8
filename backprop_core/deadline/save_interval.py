"""How often to save when nobody said. Pure: it is given what a save costs."""

from __future__ import annotations

from math import sqrt
from typing import Final

SAVING_SHARE: Final = 0.02
"""Saving may take this part of the time at most, unless the user asks for more."""
LONGEST_S: Final = 600.0
"""Without being asked, no more than ten minutes of work are ever at risk."""
MEAN_TIME_BETWEEN_FAILURES_S: Final = 24 * 3600.0
"""What Young's formula is given when nothing is known: one interruption a day."""


def interval_s(save_cost_s: float, asked_s: float | None = None) -> float:
    """Seconds from one periodic checkpoint to the next.

    What the user asked for holds. Otherwise the optimum of J. W. Young, "A first order approximation to the
    optimum checkpoint interval" (Communications of the ACM 17(9), 1974), `sqrt(2 * cost * mtbf)`, in the
    higher order form of J. T. Daly (Future Generation Computer Systems 22(3), 2006; see `daly_s`), but at
    most `LONGEST_S`, and never so often that saving takes more than `SAVING_SHARE` of the time, which for a
    long save is the rule that wins.

    Args:
        save_cost_s: seconds that training loses to one save: the copy for a save in the background, all of it
            otherwise.
        asked_s: what the user asked for, or None.

    Raises:
        ValueError: a negative cost, or an interval that is not positive.
    """
    if not save_cost_s >= 0:
        raise ValueError(f"a save cannot cost {save_cost_s} seconds")
    if asked_s is not None:
        if not asked_s > 0:
            raise ValueError(f"an interval of {asked_s} seconds is not positive")
        return asked_s
    fewest = save_cost_s / SAVING_SHARE
    return max(min(daly_s(save_cost_s, MEAN_TIME_BETWEEN_FAILURES_S), LONGEST_S), fewest)


def daly_s(save_cost_s: float, mtbf_s: float) -> float:
    """Daly's estimate (2006, equation 37) of the interval, in seconds of work, that loses the least time to
    saves and failures together; `mtbf_s` is the mean time between failures. With a small cost it is Young's
    `sqrt(2 c M)`.
    """
    if save_cost_s >= 2 * mtbf_s:
        return mtbf_s
    ratio = save_cost_s / (2 * mtbf_s)
    return sqrt(2 * save_cost_s * mtbf_s) * (1 + sqrt(ratio) / 3 + ratio / 9) - save_cost_s
