"""Which charts a run has, and what is marked in each."""

from __future__ import annotations

from collections.abc import Sequence

from backprop_cli.report.chart import Axis, Chart, Line, Mark, Span, Unit
from backprop_core.deadline.budget import duration_text
from backprop_core.history.curve import Point, thinned
from backprop_core.history.run_history import RunHistory

MOST_CHARTS = 40
"""Logged values that get a chart; a script may log thousands."""
_STRETCHES = 200
"""Of each line: its lowest and highest value in two to three pixels of the chart."""
_UNITS = {
    "memory": Unit.BYTES,
    "free memory": Unit.BYTES,
    "GPU memory": Unit.BYTES,
    "GPU temperature": Unit.CELSIUS,
    "GPU utilization": Unit.PERCENT,
    "GPU power": Unit.WATT,
}
_TITLES = {
    "memory": "memory of all its processes",
    "free memory": "free memory of the machine",
    "load": "load average",
}
_OF_EACH_GPU = tuple(name for name in _UNITS if name.startswith("GPU"))


def logged_charts(history: RunHistory) -> list[tuple[Chart | None, Chart]]:
    """A chart by step and one by time for each logged value and for the speed; None where it belongs to no step."""
    names = [*history.logged_names()[:MOST_CHARTS]]
    names += [name for name in history.machine_names() if name == "steps per second"]
    found = []
    for number, name in enumerate(names):
        by_step = history.by_step(name)
        has_steps = any(point.step is not None for part in by_step for point in part)
        of_step = _chart(history, f"s{number}", name, Axis.STEP, [(name, by_step)]) if has_steps else None
        found.append(
            (of_step, _chart(history, f"t{number}", name, Axis.TIME, [(name, history.by_time(name))]))
        )
    return found


def machine_charts(history: RunHistory) -> list[Chart]:
    """What was measured of the machine, over time; the GPUs together in one chart for each thing."""
    names = [name for name in history.machine_names() if name != "steps per second"]
    charts = []
    for number, name in enumerate(name for name in names if not name.startswith(_OF_EACH_GPU)):
        charts.append(_chart(history, f"m{number}", name, Axis.TIME, [(name, history.by_time(name))]))
    for number, what in enumerate(_OF_EACH_GPU):
        gpus = [
            (name.removeprefix(what).strip(), history.by_time(name))
            for name in names
            if name.startswith(f"{what} ")
        ]
        if gpus:
            charts.append(_chart(history, f"g{number}", what, Axis.TIME, gpus))
    return charts


def _chart(
    history: RunHistory, ident: str, name: str, axis: Axis, curves: Sequence[tuple[str, list[list[Point]]]]
) -> Chart:
    lines = tuple(Line(label, tuple(map(tuple, thinned(parts, _STRETCHES)))) for label, parts in curves)
    by_time = axis is Axis.TIME
    return Chart(
        ident,
        _TITLES.get(name, name),
        axis,
        _UNITS.get(name, Unit.NUMBER),
        lines,
        boxes=_boxes_by_time(history) if by_time else _boxes_by_step(history, curves[0][1]),
        pauses=_pauses(history) if by_time else (),
        marks=_marks(history, axis),
    )


def _boxes_by_time(history: RunHistory) -> tuple[Span, ...]:
    return tuple(
        Span(attempt.offset_s, attempt.end_s, f"box {attempt.record.number}: {attempt.record.outcome.value}")
        for attempt in history.attempts
    )


def _boxes_by_step(history: RunHistory, parts: list[list[Point]]) -> tuple[Span, ...]:
    spans, reached = [], 0
    for attempt, part in zip(history.attempts, parts, strict=True):
        begin = reached if attempt.resumed_step is None else attempt.resumed_step
        steps = [point.step for point in part if point.step is not None]
        reached = max([begin, *steps])
        spans.append(Span(begin, reached, f"box {attempt.record.number}: {attempt.record.outcome.value}"))
    return tuple(spans)


def _pauses(history: RunHistory) -> tuple[Span, ...]:
    spans = []
    for attempt in history.attempts:
        for pause in attempt.pauses:
            seconds = attempt.end_s - pause.at_s if pause.seconds is None else pause.seconds
            text = f"paused for {duration_text(seconds)}" + (f": {pause.why}" if pause.why else "")
            spans.append(Span(pause.at_s, pause.at_s + seconds, text))
    return tuple(spans)


def _marks(history: RunHistory, axis: Axis) -> tuple[Mark, ...]:
    marks = []
    low, high = 0.0, history.total_s
    for made in history.checkpoints():
        at = made.at_s if axis is Axis.TIME else made.step
        if at is None or (axis is Axis.TIME and not low <= at <= high):
            continue
        step = "" if made.step is None else f" of step {made.step}"
        kind = "survivor" if made.why == "survivor" else "checkpoint"
        marks.append(Mark(float(at), kind, f"checkpoint{step} ({made.why or 'saved by the script'})"))
    return tuple(marks)
