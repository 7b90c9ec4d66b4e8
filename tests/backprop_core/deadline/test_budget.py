"""Every notation of a budget, every source of a deadline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backprop_core.deadline.budget import parse_duration, resolve_deadlines
from backprop_core.errors import BudgetError
from backprop_core.testing.clock import FakeClock


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("00:10:00", 600),
        ("1-00:00:00", 86400),
        (timedelta(minutes=2), 120),
        (45, 45),
        (0.5, 0.5),
        (" 2 min ", 120),
    ],
)
def test_every_notation_is_read(written: Any, seconds: float) -> None:
    """Text with units, colons as in SLURM, a timedelta, a number of seconds."""
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "abc", "10", "-5m", 0, -1, float("nan"), float("inf"), True, None, "5x"]
)
def test_what_is_no_budget_gets_a_sentence(written: Any) -> None:
    """The message names the value and shows how to write one."""
    with pytest.raises(BudgetError, match="budget="):
        parse_duration(written)


def _earliest(**more: Any) -> tuple[float, str]:
    clock = FakeClock()
    given: dict[str, Any] = {"budget": None, "until": None, "environ": {}, "clock": clock} | more
    limit = resolve_deadlines(**given).earliest
    return limit.at - clock.monotonic(), limit.source


def test_the_earliest_deadline_holds_and_is_named() -> None:
    """Default, budget, until and SLURM_JOB_END_TIME."""
    wall = FakeClock().wall()
    assert _earliest() == (600, "the default of 10 minutes")
    assert _earliest(budget="20m") == (1200, "timebox('20m')")
    until = datetime.fromtimestamp(wall + 60, UTC)
    left, source = _earliest(budget="20m", until=until)
    assert left == pytest.approx(60)
    assert source.startswith("until ")
    left, source = _earliest(budget="20m", environ={"SLURM_JOB_END_TIME": str(wall + 30)})
    assert left == pytest.approx(30)
    assert source.startswith("SLURM_JOB_END_TIME")


def test_an_instant_without_a_zone_or_in_the_past_is_refused() -> None:
    """until= needs an aware datetime that is still to come."""
    with pytest.raises(BudgetError, match="not an aware datetime"):
        _earliest(until=datetime(2030, 1, 1))
    with pytest.raises(BudgetError, match="already passed"):
        _earliest(until=datetime(2001, 1, 1, tzinfo=UTC))


def test_a_pause_moves_budgets_and_no_fixed_deadline() -> None:
    """A budget waits while the run is paused; SLURM does not."""
    clock = FakeClock()
    environ = {"SLURM_JOB_END_TIME": str(clock.wall() + 700)}
    deadlines = resolve_deadlines(budget="10m", until=None, environ=environ, clock=clock)
    deadlines.shift(1000)
    assert deadlines.earliest.source.startswith("SLURM")
