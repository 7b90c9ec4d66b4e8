"""Curves of any length in bounded memory: of each stretch the lowest and the highest value are kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from backprop_core.quick_dataclass import dataclass

MOST_STRETCHES = 400
"""A curve has twice as many points at most; a chart is not many more pixels wide."""


class Point(NamedTuple):
    """A value at a moment.

    Attributes:
        step: optimizer steps of the run so far; None where the value does not belong to a step.
        at_s: seconds that the run's attempts had taken by then, pauses included and the time between two of them not.
        value: may be nan or infinite, as a loss may.
    """

    step: int | None
    at_s: float
    value: float


@dataclass(slots=True)
class _Stretch:
    """Neighbouring points: the first of those that are no number, and of the others the lowest and the highest."""

    low: Point | None = None
    high: Point | None = None
    odd: Point | None = None
    count: int = 0

    def take(self, point: Point) -> None:
        self.count += 1
        if not math.isfinite(point.value):
            self.odd = self.odd or point
            return
        if self.low is None or point.value < self.low.value:
            self.low = point
        if self.high is None or point.value > self.high.value:
            self.high = point

    def join(self, later: _Stretch) -> None:
        count = self.count + later.count
        for point in later.points():
            self.take(point)
        self.count = count

    def points(self) -> list[Point]:
        found = {point for point in (self.low, self.high, self.odd) if point is not None}
        return sorted(found, key=lambda point: point.at_s)


class BoundedCurve:
    """A growing curve. What it forgets lies between the values that it keeps.

    Stretches of equal numbers of points are joined two by two when there are more than `most`, so all of them are always
    equally long.
    """

    def __init__(self, most: int = MOST_STRETCHES) -> None:
        self.count = 0
        self._most = most
        self._stretches: list[_Stretch] = []
        self._length = 1
        self._first: Point | None = None
        self._last: Point | None = None

    def add(self, point: Point) -> None:
        """Add a point behind the others."""
        self.count += 1
        self._first = self._first or point
        self._last = point
        if not self._stretches or self._stretches[-1].count >= self._length:
            if len(self._stretches) >= 2 * self._most:
                self._join()
            self._stretches.append(_Stretch())
        self._stretches[-1].take(point)

    def points(self) -> list[Point]:
        """The points that are kept, oldest first: the first, the last, and the extremes between them."""
        kept = [point for stretch in self._stretches for point in stretch.points()]
        ends = [point for point in (self._first, self._last) if point is not None]
        return sorted({*kept, *ends}, key=lambda point: point.at_s)

    def _join(self) -> None:
        for left, right in zip(self._stretches[::2], self._stretches[1::2], strict=False):
            left.join(right)
        self._stretches = self._stretches[::2]
        self._length *= 2


def thinned(parts: Sequence[Sequence[Point]], stretches: int) -> list[list[Point]]:
    """The parts of a curve with all together about `stretches` to twice as many stretches, each with its extremes."""
    total = sum(map(len, parts)) or 1
    found = []
    for part in parts:
        curve = BoundedCurve(max(4, round(stretches * len(part) / total)))
        for point in part:
            curve.add(point)
        found.append(curve.points())
    return found


def segments(points: Sequence[Point]) -> Iterator[list[Point]]:
    """`points` cut where their step falls back, and at every value that is no number: one line is drawn through each."""
    line: list[Point] = []
    for point in points:
        back = bool(line) and point.step is not None and (line[-1].step or 0) > point.step
        if back or not math.isfinite(point.value):
            if line:
                yield line
            line = []
        if math.isfinite(point.value):
            line.append(point)
    if line:
        yield line


def without_repeated_steps(
    attempts: Sequence[Sequence[Point]], resumed_at: Sequence[int | None]
) -> list[list[Point]]:
    """The points of each attempt whose steps no later attempt has made again.

    Args:
        attempts: the points of each attempt, oldest attempt first.
        resumed_at: the step that each attempt went on from; None where it is not known.
    """
    kept, limit = [], math.inf
    for points, resumed in zip(reversed(attempts), reversed(resumed_at), strict=True):
        kept.append([point for point in points if point.step is None or point.step <= limit])
        if points and resumed is not None:
            limit = min(limit, resumed)
    return kept[::-1]
