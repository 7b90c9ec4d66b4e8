"""The rate from which it is told how many steps fit into a box."""

from __future__ import annotations

import pytest

from backprop_core.deadline.step_rate import StepRate


def looked(*looks: tuple[float, int], budget_s: float = 60.0) -> list[tuple[bool, float | None]]:
    """Whether the rate is known, and the rate, after each look at so many seconds and steps."""
    rate, told = StepRate(budget_s), []
    for now, steps in looks:
        rate.observe(now, steps)
        told.append((rate.known, rate.per_s))
    return told


def test_a_slow_beginning_is_no_forecast() -> None:
    """While steps become faster nothing is known; then the rate is that of the fast ones alone."""
    told = looked((0, 1), (4, 2), (5, 3), (6, 23), (7, 63), (8, 103), (9, 143))
    assert [known for known, _ in told] == [False] * 5 + [True, True]
    assert told[-1][1] == pytest.approx(40)


def test_an_evaluation_belongs_to_the_rate() -> None:
    """A slow stretch between fast ones comes again, so it is not left out."""
    told = looked((0, 1), (1, 11), (2, 21), (12, 31), (13, 41), (14, 51))
    assert told[-1] == (True, pytest.approx(50 / 14))


def test_a_long_box_has_time_to_know() -> None:
    """Two per cent of the box have to be seen, and never more than 20 s."""
    looks = [(float(second), 10 * second) for second in range(25)]
    for budget_s, known_at in ((10, 2), (600, 12), (86_400, 20)):
        told = looked(*looks, budget_s=float(budget_s))
        assert [known for known, _ in told].index(True) == known_at, budget_s
