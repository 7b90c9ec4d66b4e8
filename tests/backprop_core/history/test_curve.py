"""Curves of any length in bounded memory."""

from __future__ import annotations

import itertools
import math
import random

from backprop_core.history.curve import MOST_STRETCHES, BoundedCurve, Point, segments, without_repeated_steps


def test_a_million_points_keep_their_ends_and_every_extreme() -> None:
    """The first, the last, the highest and the lowest of a million points are kept, a lone spike included, evenly."""
    curve, spike = BoundedCurve(), 777_777
    for step in range(1_000_000):
        curve.add(Point(step, float(step), 1e9 if step == spike else math.sin(step / 1000)))
    points = curve.points()
    assert len(points) <= 4 * MOST_STRETCHES + 2
    assert (points[0].step, points[-1].step) == (0, 999_999)
    assert max(points, key=lambda point: point.value).step == spike
    gaps = [after.at_s - before.at_s for before, after in itertools.pairwise(points)]
    assert max(gaps) <= 2 * 1_000_000 / MOST_STRETCHES


def test_what_is_kept_lies_around_what_is_forgotten() -> None:
    """Of each stretch the extremes are the true ones: no value of the curve lies outside of what is drawn there."""
    values = [random.Random(3).gauss(0, 1) for _ in range(5000)]
    curve = BoundedCurve(most=10)
    for step, value in enumerate(values):
        curve.add(Point(step, float(step), value))
    kept = {point.step: point.value for point in curve.points()}
    assert all(values[step or 0] == value for step, value in kept.items())
    assert max(kept.values()) == max(values)
    assert min(kept.values()) == min(values)


def test_a_short_curve_is_kept_whole() -> None:
    """Nothing of few points is left out, and an empty curve has none."""
    curve = BoundedCurve()
    assert curve.points() == []
    for step in range(300):
        curve.add(Point(step, float(step), float(step % 7)))
    assert [point.step for point in curve.points()] == list(range(300))


def test_a_value_that_is_no_number_is_seen_and_ends_the_line() -> None:
    """A nan in the middle of many points survives the thinning and cuts the line in two."""
    curve = BoundedCurve(most=5)
    for step in range(1000):
        curve.add(Point(step, float(step), math.nan if step == 500 else 1.0))
    assert any(math.isnan(point.value) for point in curve.points())
    assert len(list(segments(curve.points()))) == 2


def test_steps_that_were_made_again_are_drawn_once() -> None:
    """After a death at step 9 a resume from step 5 makes 6 to 9 again; the earlier ones are not drawn by step."""
    first = [Point(step, float(step), 1.0) for step in range(10)]
    second = [Point(step, float(step), 2.0) for step in range(6, 20)]
    third = [Point(step, float(step), 3.0) for step in range(3, 5)]
    kept = without_repeated_steps([first, second], [None, 5])
    assert [point.step for point in kept[0]] == [0, 1, 2, 3, 4, 5]
    assert kept[1] == second
    assert [len(points) for points in without_repeated_steps([first, second, third], [None, 5, 2])] == [
        3,
        0,
        2,
    ]
