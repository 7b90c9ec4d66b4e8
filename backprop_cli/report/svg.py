"""Charts as SVG: text that a browser draws sharply at every size, that is searched, printed, and needs no script."""

from __future__ import annotations

import math
from html import escape

from backprop_cli.report.chart import (
    Axis,
    Chart,
    Line,
    Scale,
    log_ticks,
    step_ticks,
    ticks,
    time_ticks,
    value_scale,
    value_text,
)
from backprop_core.strict_json import encode

WIDE, NARROW, HEIGHT = 1000, 500, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 14, 20, 34
_LEAST_LABEL_PX = 26
_LEAST_TICK_PX = 80
_LEAST_MARK_PX = 3.0
COLOURS = 6
"""How many colours the page has for lines; more lines begin anew with another dash."""


def drawing(chart: Chart, width: int = WIDE) -> str:
    """The chart as an `<svg>` element, `width` pixels wide where it is not scaled. `described` says the same in words."""
    across, up = _scales(chart, width)
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{escape(described(chart))}">',
        *_boxes(chart, across),
        *_pauses(chart, across),
        *_grid(chart, across, up),
        *_marks(chart, across),
    ]
    for number, line in enumerate(chart.lines):
        parts += _line(chart, line, number, across, up)
    parts.append(
        f'<line class="cursor" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}" hidden=""/><circle class="cursor" r="3.5" hidden=""/>'
    )
    return "".join([*parts, "</svg>"])


def cursor_data(chart: Chart, width: int = WIDE) -> str:
    """Where the points of the chart are and what each says, as JSON for the page's script, from left to right."""
    across, up = _scales(chart, width)
    found = []
    for line in chart.lines:
        name = f"{line.name}, " if len(chart.lines) > 1 else ""
        for segment in chart.segments(line):
            for point in segment:
                at = across(chart.place(point) or 0.0)
                found.append((round(at, 1), round(up(point.value), 1), name + chart.text(point)))
    found.sort(key=lambda item: item[0])
    return encode(
        {"x": [x for x, _, _ in found], "y": [y for _, y, _ in found], "t": [t for _, _, t in found]}
    )


def described(chart: Chart) -> str:
    """What a chart shows, in words."""
    along = "steps" if chart.axis is Axis.STEP else "time"
    told = [f"{chart.title} over {along}."]
    for line in chart.lines:
        points = [point for segment in chart.segments(line) for point in segment]
        name = line.name if len(chart.lines) > 1 else "It"
        if not points:
            told.append(f"{name} has no values.")
            continue
        low = min(points, key=lambda point: point.value)
        high = max(points, key=lambda point: point.value)
        told.append(
            f"{name} goes from {value_text(chart.unit, points[0].value)} to {value_text(chart.unit, points[-1].value)}; "
            f"lowest {value_text(chart.unit, low.value)} at {chart.place_text(chart.place(low) or 0.0)}, "
            f"highest {value_text(chart.unit, high.value)} at {chart.place_text(chart.place(high) or 0.0)}."
        )
    return " ".join(told)


def _scales(chart: Chart, width: int) -> tuple[Scale, Scale]:
    low, high = chart.extent()
    return Scale(low, high, _LEFT, width - _RIGHT), value_scale(chart.values(), HEIGHT - _BOTTOM, _TOP)


def _boxes(chart: Chart, across: Scale) -> list[str]:
    parts = []
    for number, span in enumerate(chart.boxes):
        x, width = across(span.begin), max(0.5, across(span.end) - across(span.begin))
        kind = "box odd" if number % 2 else "box"
        parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{HEIGHT - _TOP - _BOTTOM}">'
            f"<title>{escape(span.text)}</title></rect>"
        )
        if width >= _LEAST_LABEL_PX:
            parts.append(f'<text class="small" x="{x + 3:.1f}" y="{_TOP - 6}">box {number + 1}</text>')
    return parts


def _pauses(chart: Chart, across: Scale) -> list[str]:
    parts, drawn_to = [], -1.0
    for span in chart.pauses:
        x = across(span.begin)
        width = max(1.0, across(span.end) - x)
        if x + width < drawn_to + 0.5:  # thousands of short ones would hide each other
            continue
        drawn_to = x + width
        parts.append(
            f'<rect class="pause" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{HEIGHT - _TOP - _BOTTOM}">'
            f"<title>{escape(span.text)}</title></rect>"
        )
    return parts


def _grid(chart: Chart, across: Scale, up: Scale) -> list[str]:
    heights = log_ticks(up.low, up.high, 6) if up.log else ticks(up.low, up.high, 6)
    parts = []
    for value in heights:
        y = up(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{across.end:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{y + 4:.1f}">'
            f"{escape(value_text(chart.unit, value))}</text>"
        )
    by_time = chart.axis is Axis.TIME
    most = int((across.end - across.begin) // _LEAST_TICK_PX)
    places = (time_ticks if by_time else step_ticks)(across.low, across.high, most)
    for at in places:
        text = chart.place_text(at).removesuffix(" 00 s").removesuffix(".0 s") if by_time else f"{round(at)}"
        text += " s" if by_time and text.isdigit() else ""
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{across(at):.1f}" y="{HEIGHT - _BOTTOM + 20}">{text}</text>'
        )
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{across.end:g}" y1="{HEIGHT - _BOTTOM}" y2="{HEIGHT - _BOTTOM}"/>'
    )
    if up.log:
        parts.append(
            f'<text class="small" text-anchor="end" x="{across.end:g}" y="{_TOP - 6}">logarithmic</text>'
        )
    return parts


def _marks(chart: Chart, across: Scale) -> list[str]:
    base, parts, drawn_at = HEIGHT - _BOTTOM, [], dict[str, float]()
    for mark in chart.marks:
        if not across.low <= mark.at <= across.high:
            continue
        x = across(mark.at)
        if x - drawn_at.get(mark.kind, -99.0) < _LEAST_MARK_PX:
            continue
        drawn_at[mark.kind] = x
        diamond = f"M{x:.1f} {base - 9}l4.5 4.5l-4.5 4.5l-4.5-4.5z"
        shape = diamond if mark.kind == "survivor" else f"M{x:.1f} {base - 7}l4 7h-8z"
        parts.append(f'<path class="{mark.kind}" d="{shape}"><title>{escape(mark.text)}</title></path>')
    return parts


def _line(chart: Chart, line: Line, number: int, across: Scale, up: Scale) -> list[str]:
    kind = f"line c{number % COLOURS}" + (" dashed" if number >= COLOURS else "")
    parts = []
    for segment in chart.segments(line):
        spots = [(across(chart.place(point) or 0.0), up(point.value)) for point in segment]
        if len(spots) == 1:
            parts.append(f'<circle class="{kind} dot" cx="{spots[0][0]:.1f}" cy="{spots[0][1]:.1f}" r="2"/>')
            continue
        parts.append(f'<path class="{kind}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in spots)}"/>')
    for point in line.points():
        at = chart.place(point)
        if at is not None and not math.isfinite(point.value):
            parts.append(
                f'<text class="odd-value" text-anchor="middle" x="{across(at):.1f}" y="{_TOP + 12}">&#215;'
                f"<title>{escape(chart.text(point))}</title></text>"
            )
    return parts
