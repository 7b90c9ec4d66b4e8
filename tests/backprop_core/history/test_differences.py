"""Two curves beside one another."""

from __future__ import annotations

import math

import pytest

from backprop_core.history.curve import Point
from backprop_core.history.differences import compare_curves


def _points(values: dict[int, float]) -> list[Point]:
    return [Point(step, float(step), value) for step, value in values.items()]


def test_the_first_step_that_differs_is_found() -> None:
    """Of the steps that both know the first with another bit is named, however small the difference."""
    before = _points({1: 0.5, 2: 0.25, 3: 0.1, 4: 0.0})
    after = _points({2: 0.25, 3: math.nextafter(0.1, 1), 4: 9.0})
    found = compare_curves("loss", before, after)
    assert found.common_steps == 3
    assert found.first is not None
    assert (found.first.step, found.first.before, found.first.between) == (3, 0.1, False)


def test_equal_curves_have_no_first_difference_with_nan_in_them_either() -> None:
    """A value that is no number is the same as another one that is none."""
    points = _points({1: 0.5, 2: math.nan, 3: 0.1})
    found = compare_curves("loss", points, points)
    assert (found.common_steps, found.first) == (3, None)


def test_curves_without_a_common_step_are_compared_between_their_steps() -> None:
    """Values between two logged ones are marked as such, and nothing is told beyond what both cover."""
    before = _points({0: 0.0, 10: 10.0, 20: 20.0})
    after = _points({5: 50.0, 15: 150.0, 100: 0.0})
    found = compare_curves("loss", before, after)
    assert (found.common_steps, found.first) == (0, None)
    assert [place.step for place in found.places] == [5, 8, 12, 16, 20]
    assert found.places[0].before == pytest.approx(5.0)
    assert found.places[1].after == pytest.approx(80.0)
    assert all(place.between for place in found.places)
    assert compare_curves("loss", before, _points({50: 1.0})).places == ()
    assert compare_curves("loss", before, []).places == ()
