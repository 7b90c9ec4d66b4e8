"""A chart before it is drawn: its lines, what is marked beside them, its axes and how their numbers read."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from backprop_cli.commands.checkpoints import size_text
from backprop_core.deadline.budget import duration_text
from backprop_core.history.curve import Point, segments
from backprop_core.quick_dataclass import dataclass

LOG_FROM = 1000.0
"""A curve whose highest value is so many times its lowest is drawn on a logarithmic scale."""
_PAD = 0.04
_LARGEST = sys.float_info.max
_TINY = 1e-290


class Axis(StrEnum):
    """What a chart goes along."""

    STEP = "step"
    TIME = "time"


class Unit(StrEnum):
    """How the values of a chart read."""

    NUMBER = "number"
    BYTES = "bytes"
    CELSIUS = "celsius"
    PERCENT = "percent"
    WATT = "watt"
    SECONDS = "seconds"


_TEXTS: dict[Unit, Callable[[float], str]] = {
    Unit.NUMBER: lambda value: f"{value:.4g}",
    Unit.BYTES: lambda value: size_text(round(value)) if value >= 0 else f"{value:.4g} B",
    Unit.CELSIUS: lambda value: f"{value:.4g} °C",
    Unit.PERCENT: lambda value: f"{value:.4g}%",
    Unit.WATT: lambda value: f"{value:.4g} W",
    Unit.SECONDS: duration_text,
}


def value_text(unit: Unit, value: float) -> str:
    """A value for people, with its unit; `nan` and infinities as such."""
    return _TEXTS[unit](value) if math.isfinite(value) else str(value)


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a chart: its name, and the points of each attempt (or of each run that is compared)."""

    name: str
    parts: tuple[tuple[Point, ...], ...]

    def points(self) -> Iterator[Point]:
        for part in self.parts:
            yield from part


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the horizontal axis that is shaded, and what it is."""

    begin: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the horizontal axis that is marked. `kind` is `checkpoint` or `survivor`."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn.

    Attributes:
        ident: names it within a page.
        boxes: the stretches of the attempts.
        pauses: the stretches in which the run was held up.
    """

    ident: str
    title: str
    axis: Axis
    unit: Unit
    lines: tuple[Line, ...]
    boxes: tuple[Span, ...] = ()
    pauses: tuple[Span, ...] = ()
    marks: tuple[Mark, ...] = ()

    def place(self, point: Point) -> float | None:
        """Where a point stands on the horizontal axis; None where it has no place there."""
        if self.axis is Axis.TIME:
            return point.at_s
        return None if point.step is None else float(point.step)

    def segments(self, line: Line) -> Iterator[list[Point]]:
        """The pieces of a line, each of which is drawn in one go."""
        for part in line.parts:
            yield from segments([point for point in part if self.place(point) is not None])

    def values(self) -> list[float]:
        """All values that can be drawn."""
        return [point.value for line in self.lines for point in line.points() if math.isfinite(point.value)]

    def extent(self) -> tuple[float, float]:
        """The ends of the horizontal axis."""
        places = [
            at for line in self.lines for point in line.points() if (at := self.place(point)) is not None
        ]
        places += [edge for span in self.boxes for edge in (span.begin, span.end)]
        if not places:
            return 0.0, 1.0
        low, high = min(places), max(places)
        return (low, high) if high > low else (low, low + 1.0)

    def place_text(self, at: float) -> str:
        """A place on the horizontal axis for people."""
        return duration_text(at) if self.axis is Axis.TIME else f"step {round(at)}"

    def text(self, point: Point) -> str:
        """A point for people: where, when, how much."""
        step = "" if point.step is None else f"step {point.step}, "
        return f"{step}{duration_text(point.at_s)}: {value_text(self.unit, point.value)}"


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels.

    Attributes:
        low, high: the values at the ends.
        begin, end: the pixels there.
        log: logarithmic; both values are above 0.
    """

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._plain(self.low), self._plain(self.high)
        share = (self._plain(value) / 2 - low / 2) / (
            high / 2 - low / 2
        )  # halves: a width may be too large for a float
        return self.begin + share * (self.end - self.begin)

    def _plain(self, value: float) -> float:
        return math.log10(value) if self.log else value


def value_scale(values: Sequence[float], begin: float, end: float) -> Scale:
    """A scale that holds all `values`, with a little room; logarithmic where they span `LOG_FROM`."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low > _TINY and high / low >= LOG_FROM:
        room = min(high / low, _LARGEST) ** _PAD
        return Scale(low / room, min(high * room, _LARGEST), begin, end, log=True)
    room = (high / 2 - low / 2) * 2 * _PAD  # halves: a width may be too large for a float
    if room < _TINY:
        room = abs(high) / 2 if abs(high) > _TINY else 1.0
    room = min(room, _LARGEST / 20)
    return Scale(max(low - room, -_LARGEST), min(high + room, _LARGEST), begin, end)


def step_ticks(low: float, high: float, most: int) -> list[float]:
    """Whole round numbers between `low` and `high`, `most` at most."""
    return [*dict.fromkeys(float(round(place)) for place in ticks(low, high, most))]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between `low` and `high`, `most` at most."""
    width = high - low
    if not math.isfinite(width) or width <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(width / most))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if width / step <= most)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)][: most + 1]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten between `low` and `high`, `most` at most."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    every = max(1, math.ceil((last - first + 1) / most))
    return [10.0**power for power in range(first, last + 1, every)]


def time_ticks(low: float, high: float, most: int) -> list[float]:
    """Times that a clock shows, in seconds, `most` at most."""
    steps = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400)
    width = high - low
    step = next((float(step) for step in steps if width / step <= most), 0.0)
    if width < 2:
        return ticks(low, high, most)
    if not step:
        step = 86_400.0 * math.ceil(width / 86_400 / most)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]
