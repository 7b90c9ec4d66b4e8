"""Axes, scales and drawings of a chart."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop_cli.report.braille import curve_lines, spark
from backprop_cli.report.chart import (
    Axis,
    Chart,
    Line,
    Mark,
    Span,
    Unit,
    log_ticks,
    step_ticks,
    ticks,
    time_ticks,
    value_scale,
)
from backprop_cli.report.svg import HEIGHT, WIDE, cursor_data, described, drawing
from backprop_core.history.curve import Point
from backprop_core.strict_json import decode

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def _chart(values: list[float], *, title: str = "loss", axis: Axis = Axis.STEP) -> Chart:
    points = tuple(Point(step, 2.0 * step, value) for step, value in enumerate(values))
    return Chart("c", title, axis, Unit.NUMBER, (Line(title, (points,)),))


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_every_value_has_its_place_within_the_chart(values: list[float]) -> None:
    """Of any finite values, as large, small and equal as they may be, each lies between the edges, higher ones higher."""
    scale = value_scale(values, 200.0, 20.0)
    places = [scale(value) for value in sorted(values)]
    assert all(20.0 - 1e-6 <= place <= 200.0 + 1e-6 for place in places)
    assert all(upper <= lower + 1e-6 for lower, upper in pairwise(places))


@given(FINITE, st.floats(1e-12, 1e300), st.integers(2, 12))
def test_ticks_are_few_and_within_the_axis(low: float, width: float, most: int) -> None:
    """Ticks of any axis lie on it, and there are never more than fit."""
    high = low + width
    if not math.isfinite(high) or high - low < abs(low) * 1e-12:
        return
    room = (high - low) * 1e-6
    for found in (ticks(low, high, most), time_ticks(low, high, most)):
        assert len(found) <= most + 1
        assert all(low - room <= tick <= high + room for tick in found)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ticks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (step_ticks(0, 3, 7), [0, 1, 2, 3]),
        (step_ticks(0, 5800, 7), [0, 1000, 2000, 3000, 4000, 5000]),
        (time_ticks(0, 5400, 7), [0, 1800, 3600, 5400]),
        (time_ticks(0, 86_400 * 30, 6), [n * 86_400 * 5.0 for n in range(7)]),
        (log_ticks(0.002, 30, 6), [0.01, 0.1, 1, 10]),
    ],
)
def test_ticks_are_round(found: list[float], expected: list[float]) -> None:
    """Numbers are round, steps whole, times those of a clock, and a logarithmic axis shows powers of ten."""
    assert found == pytest.approx(expected)


@given(st.lists(st.floats(), max_size=20), st.sampled_from(Axis))
def test_any_values_can_be_drawn_and_said(values: list[float], axis: Axis) -> None:
    """Whatever was logged, the drawing is well-formed with numbers inside of it, and so are text, data and Braille."""
    chart = _chart(values, title='<a href="x">&', axis=axis)
    root = ElementTree.fromstring(drawing(chart))
    assert root.attrib["viewBox"] == f"0 0 {WIDE} {HEIGHT}"
    for word in ("nan", "inf"):
        assert all(word not in element.get("d", "") + element.get("x", "") for element in root.iter())
    data = decode(cursor_data(chart))
    assert len(data["x"]) == len(data["t"]) == sum(map(math.isfinite, values))
    assert all(0 <= y <= HEIGHT for y in data["y"])
    assert described(chart)
    for plain in (True, False):
        assert all(len(line) <= 80 for line in curve_lines(chart, 80, 6, plain=plain))
    spark(values, 10)


def test_a_curve_falls_where_its_values_fall() -> None:
    """In a terminal the first dots of a falling curve are in the upper row and the last ones in the lowest."""
    lines = curve_lines(_chart([8.0, 6.0, 4.0, 2.0, 1.0]), 60, 6, plain=True)
    assert lines[0].lstrip().startswith("8.")
    assert "*" in lines[0][:20]
    assert "*" in lines[5][40:]
    assert "*" not in lines[0][40:]
    assert lines[6].split() == ["step", "0", "step", "4"]
    assert spark([1, 2, 3, 4], 2) == "⡠⠊"
    assert spark([1.0], 2) == ""


def test_marks_pauses_and_boxes_are_drawn_once_for_each_that_can_be_seen() -> None:
    """A survivor is a mark of its own, a thousand pauses do not make a thousand shapes, and each says what it is."""
    points = tuple(Point(None, float(second), 1.0) for second in range(1000))
    chart = Chart(
        "c",
        "memory",
        Axis.TIME,
        Unit.BYTES,
        (Line("memory", (points,)),),
        boxes=(Span(0, 500, "box 1: lost"), Span(500, 1000, "box 2: completed")),
        pauses=tuple(Span(at / 100, at / 100 + 0.001, "paused: hot") for at in range(100_000)),
        marks=(
            Mark(10, "checkpoint", "of step 10"),
            Mark(20, "survivor", "of step 20"),
            Mark(9999, "checkpoint", "x"),
        ),
    )
    shown = drawing(chart)
    assert shown.count('class="survivor"') == shown.count('class="checkpoint"') == 1
    assert 1 <= shown.count('class="pause"') <= 2 * WIDE
    assert ">box 2<" in shown
    assert "box 1: lost" in shown
