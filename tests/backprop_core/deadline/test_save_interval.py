"""The interval between periodic checkpoints."""

from __future__ import annotations

import math

import pytest

from backprop_core.deadline.save_interval import (
    LONGEST_S,
    MEAN_TIME_BETWEEN_FAILURES_S,
    SAVING_SHARE,
    daly_s,
    interval_s,
)


@pytest.mark.parametrize("cost_s", [0.0, 1e-6, 0.001, 0.05, 1.0, 12.0, 100.0, 10_000.0])
def test_saving_takes_at_most_its_share(cost_s: float) -> None:
    """Whatever a save costs, the time between two is long enough that saving stays within 2%."""
    interval = interval_s(cost_s)
    assert cost_s <= SAVING_SHARE * interval * (1 + 1e-12)
    assert interval <= max(LONGEST_S, cost_s / SAVING_SHARE)


def test_what_was_asked_holds() -> None:
    """The user's interval is taken as it is, even when saving then takes more than its share."""
    assert interval_s(5.0, 10.0) == 10.0
    for asked_s in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError):
            interval_s(1.0, asked_s)
    with pytest.raises(ValueError):
        interval_s(-1.0)


def test_the_formula_is_youngs_for_small_costs() -> None:
    """For costs far below the time between failures Daly's estimate is Young's sqrt(2 c M), less the cost
    itself.
    """
    for cost_s in (1e-6, 1e-3, 0.1):
        young = math.sqrt(2 * cost_s * MEAN_TIME_BETWEEN_FAILURES_S)
        assert daly_s(cost_s, MEAN_TIME_BETWEEN_FAILURES_S) == pytest.approx(young, rel=2e-3)
    assert interval_s(0.01) == pytest.approx(41.6, abs=0.1)


def test_the_formula_is_the_optimum_of_dalys_cost_function() -> None:
    """The estimate lies within a few percent of the minimum of the exact expected run time, found by search."""
    for cost_s, mtbf_s in ((1.0, 3600.0), (30.0, 3600.0), (60.0, 86400.0)):

        def overhead(work_s: float, cost_s: float = cost_s, mtbf_s: float = mtbf_s) -> float:
            return mtbf_s * math.expm1((work_s + cost_s) / mtbf_s) / work_s

        best = min((overhead(mtbf_s * k / 20_000), mtbf_s * k / 20_000) for k in range(1, 20_000))[1]
        assert daly_s(cost_s, mtbf_s) == pytest.approx(best, rel=0.03)
