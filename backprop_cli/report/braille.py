"""Curves out of dots of Braille, eight to a character; out of stars where a terminal knows no Braille."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from backprop_cli.report.chart import Chart, Scale, value_scale, value_text
from backprop_core.history.curve import Point

_BLANK = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of the dot in each row and column of a character."""


class Canvas:
    """A field of dots, two wide and four high to a character."""

    def __init__(self, columns: int, rows: int) -> None:
        self.width, self.height = 2 * columns, 4 * rows
        self._cells = [[0] * columns for _ in range(rows)]

    def dot(self, x: int, y: int) -> None:
        """Set a dot; (0, 0) is the upper left one. What lies outside is left out."""
        if 0 <= x < self.width and 0 <= y < self.height:
            self._cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]

    def stroke(self, x0: int, y0: int, x1: int, y1: int) -> None:
        """A line between two dots."""
        length = max(abs(x1 - x0), abs(y1 - y0), 1)
        for place in range(length + 1):
            self.dot(round(x0 + (x1 - x0) * place / length), round(y0 + (y1 - y0) * place / length))

    def lines(self, *, plain: bool = False) -> list[str]:
        """The characters, row by row. `plain` uses a star where there is any dot."""
        if plain:
            return ["".join("*" if cell else " " for cell in row) for row in self._cells]
        return ["".join(chr(_BLANK + cell) for cell in row) for row in self._cells]


def curve_lines(chart: Chart, columns: int, rows: int, *, plain: bool = False) -> list[str]:
    """A chart as lines of text, `columns` wide and `rows` high, with the values at its edges.

    Args:
        plain: for a terminal that knows only ASCII.
    """
    values = chart.values()
    if not values:
        return ["(no values)"]
    scale = value_scale(values, 4 * rows - 1, 0)
    labels = [value_text(chart.unit, scale.high), value_text(chart.unit, scale.low)]
    wide = max(map(len, labels))
    canvas = Canvas(max(10, columns - wide - 2), rows)
    low, high = chart.extent()
    across = Scale(low, high, 0, canvas.width - 1)
    for line in chart.lines:
        for segment in chart.segments(line):
            _draw(canvas, chart, segment, across, scale)
    bar = "|" if plain else "│"
    lines = []
    for number, row in enumerate(canvas.lines(plain=plain)):
        label = labels[0] if number == 0 else labels[1] if number == rows - 1 else ""
        lines.append(f"{label:>{wide}} {bar}{row}".rstrip())
    left, right = chart.place_text(low), chart.place_text(high)
    room = max(1, canvas.width // 2 - len(left) - len(right))
    return [*lines, f"{'':>{wide}} {' '}{left}{' ' * room}{right}"]


def spark(values: Sequence[float], columns: int) -> str:
    """The last values as one line of Braille, `columns` wide and four dots high; empty without two numbers."""
    numbers = [value for value in values if math.isfinite(value)][-2 * columns :]
    if len(numbers) < 2:
        return ""
    canvas = Canvas(columns, 1)
    scale = value_scale(numbers, 3, 0)
    spots = [round(scale(value)) for value in numbers]
    for x, (before, after) in enumerate(pairwise(spots)):
        canvas.stroke(x, before, x + 1, after)
    return canvas.lines()[0].rstrip(chr(_BLANK))


def _draw(canvas: Canvas, chart: Chart, segment: Sequence[Point], across: Scale, up: Scale) -> None:
    spots = [(round(across(chart.place(point) or 0.0)), round(up(point.value))) for point in segment]
    if len(spots) == 1:
        canvas.dot(*spots[0])
    for (x0, y0), (x1, y1) in pairwise(spots):
        canvas.stroke(x0, y0, x1, y1)
