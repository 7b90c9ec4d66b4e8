"""The share of a budget that is used, and the shapes of a learning rate over it."""

from __future__ import annotations

import itertools

import pytest

from backprop_core.deadline.budget_progress import BudgetProgress, budget_progress
from backprop_core.deadline.schedule_shapes import FIRST_FACTOR, SHAPES, BudgetShape
from backprop_core.errors import UsageError
from backprop_core.testing.clock import FakeClock


def test_it_is_one_where_the_reserve_begins_and_never_falls() -> None:
    """From 0 to 1 at the last step, monotone although the reserve is a forecast that changes."""
    progress = BudgetProgress(100.0)
    assert progress.share(0.0, 100.0, 10.0) == 0.0
    assert progress.share(0.0, 55.0, 10.0) == 0.5
    assert progress.share(0.0, 55.0, 0.0) == 0.5, "a smaller reserve does not take it back"
    assert progress.share(0.0, 10.0, 10.0) < 1.0 <= progress.share(0.0, 0.0, 10.0)


def test_added_time_takes_it_back_and_a_total_does_not_care() -> None:
    """An extension of the box is more budget; the end of a --total stays where it is."""
    one = BudgetProgress(100.0)
    assert one.share(0.0, 50.0) == 0.5
    one.extend(100.0)
    assert one.share(0.0, 150.0) == 0.25
    chain = BudgetProgress(100.0, ends_at=100.0)
    assert chain.share(50.0, 5.0) == 0.5
    chain.extend(100.0)
    assert chain.share(75.0, 130.0) == 0.75


def test_a_box_of_a_chain_counts_the_total() -> None:
    """What the governor tells of --total decides, and nonsense in its place is left out."""
    clock = FakeClock()
    told = {"BACKPROP_TOTAL_S": "1000", "BACKPROP_TOTAL_UNTIL_WALL": repr(clock.wall() + 250.0)}
    assert budget_progress(60.0, told, clock).share(clock.monotonic(), 60.0) == pytest.approx(0.75)
    told["BACKPROP_TOTAL_S"] = "soon"
    assert budget_progress(60.0, told, clock).share(clock.monotonic(), 60.0) == 0.0


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "constant"])
def test_shapes_run_from_one_to_zero(name: str) -> None:
    """Every shape but the constant one falls from 1 to 0 behind the warm-up, and never rises there."""
    shape = BudgetShape(0.1, name)
    values = [shape.factor(0.1 + 0.9 * n / 100) for n in range(101)]
    assert values[0] == pytest.approx(1.0)
    assert values[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(values))


def test_warmup_counts_from_the_first_step() -> None:
    """What starting up has taken is no part of the schedule, so no warm-up is lost to it."""
    shape = BudgetShape(0.2, "linear")
    assert shape.factor(0.5, begin=0.5) == FIRST_FACTOR
    assert shape.factor(0.6, begin=0.5) == pytest.approx(1.0)
    assert shape.factor(1.0, begin=0.5) == 0.0
    assert shape.factor(1.0, begin=1.0) == 0.0


@pytest.mark.parametrize(
    ("warmup", "shape"), [(1.0, "linear"), (-0.1, "linear"), (True, "linear"), (0.1, "steep")]
)
def test_what_cannot_be_meant_is_said(warmup: float, shape: str) -> None:
    """A share outside of 0 to 1 and an unknown shape are told at once."""
    with pytest.raises(UsageError):
        BudgetShape(warmup, shape)
