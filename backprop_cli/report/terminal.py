"""The report in a terminal: the curves, and the things that are read first."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import click

from backprop_cli.opening import one_line
from backprop_cli.report import facts
from backprop_cli.report.braille import curve_lines
from backprop_cli.report.charts import logged_charts, machine_charts
from backprop_cli.report.facts import PART_TEXTS, Report
from backprop_core.deadline.budget import duration_text

_ROWS = 8
_MOST_COLUMNS = 100


def show_text(report: Report) -> None:
    """Print the report for the terminal that standard output is, 80 columns elsewhere."""
    columns = min(_MOST_COLUMNS, shutil.get_terminal_size((80, 24)).columns - 1)
    for line in text_lines(report, columns, plain=not knows_braille()):
        click.echo(line)


def knows_braille() -> bool:
    """Whether standard output can show Braille."""
    try:
        "⠿│".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def text_lines(report: Report, columns: int, *, plain: bool) -> Iterator[str]:
    """The report line by line."""
    record = report.history.record
    name = f" ({record.name})" if record.name else ""
    yield one_line(f"run {record.id}{name}: {record.status.value}")
    yield "  ".join(f"{name} {value}" for name, value in facts.headline(report))
    for by_step, by_time in logged_charts(report.history):
        chart = by_step or by_time
        yield ""
        yield one_line(chart.title)
        yield from curve_lines(chart, columns, _ROWS, plain=plain)
    for chart in machine_charts(report.history):
        yield ""
        yield one_line(
            f"{chart.title}: {', '.join(line.name for line in chart.lines)}"
            if len(chart.lines) > 1
            else chart.title
        )
        yield from curve_lines(chart, columns, _ROWS // 2, plain=plain)
    yield ""
    for number, parts, _ in facts.spent_rows(report):
        known = [f"{PART_TEXTS[name]} {duration_text(seconds)}" for name, seconds in parts.items() if seconds]
        yield f"box {number}: {', '.join(known)}"
    for box, _, outcome, _, _, why in facts.box_rows(report):
        yield one_line(f"box {box} {outcome.value}: {why}")
