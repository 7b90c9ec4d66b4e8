"""Pieces of HTML. Everything that comes from a run is escaped here, whatever it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from backprop_cli.report.chart import Axis, Chart
from backprop_cli.report.svg import COLOURS, NARROW, WIDE, cursor_data, drawing
from backprop_core.outcome import Outcome

_KINDS = {
    Outcome.COMPLETED: "good",
    Outcome.RUNNING: "good",
    Outcome.FAILED: "bad",
    Outcome.LOST: "bad",
}


class Markup(str):
    """Text that is HTML already, and safe."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Anything as HTML: escaped, unless it is HTML already."""
    if isinstance(value, Markup):
        return value
    shown = str(value).encode("utf-8", "replace").decode()
    return Markup(escape("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in shown)))


def code(value: object) -> Markup:
    """A command, a path or a digest."""
    return Markup(f"<code>{text(value)}</code>")


def status(outcome: Outcome, word: str = "") -> Markup:
    """How a run or an attempt ended, as a word with a colour."""
    return Markup(f'<span class="{_KINDS.get(outcome, "middling")}">{text(word or outcome.value)}</span>')


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str, numbers: Sequence[str] = ()
) -> Markup:
    """A table. `numbers` are the columns that stand on the right."""

    def cell(tag: str, column: str, value: object) -> str:
        kind = ' class="number"' if column in numbers else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{kind}{scope}>{text(value)}</{tag}>"

    head = "".join(cell("th", column, column) for column in columns)
    body = "".join(
        f"<tr>{''.join(cell('td', column, value) for column, value in zip(columns, row, strict=True))}</tr>"
        for row in rows
    )
    return Markup(
        f'<div class="scroll"><table><caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def pairs(rows: Iterable[tuple[str, object]], *, caption: str) -> Markup:
    """A table of names and values."""
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in rows
    )
    return Markup(
        f'<div class="scroll"><table><caption>{text(caption)}</caption><tbody>{body}</tbody></table></div>'
    )


def facts(rows: Iterable[tuple[str, object]]) -> Markup:
    """The few things that are read first."""
    shown = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in rows)
    return Markup(f'<dl class="facts">{shown}</dl>')


def folded(title: str, content: Markup) -> Markup:
    """Something long that is opened when it is wanted."""
    return Markup(f"<details><summary>{text(title)}</summary>{content}</details>")


def section(ident: str, title: str, *content: Markup) -> Markup:
    """A part of the page with a heading."""
    return Markup(
        f'<section aria-labelledby="{ident}"><h2 id="{ident}">{text(title)}</h2>{"".join(content)}</section>'
    )


def figure(chart: Chart, *, wide: bool = False, switched: bool = False) -> Markup:
    """A chart with its slider and its values.

    Args:
        wide: over both columns.
        switched: it is there for steps and for time, and one of the two is seen.
    """
    kinds = (["wide"] if wide else []) + ([f"by-{chart.axis.value}"] if switched else [])
    width = WIDE if wide else NARROW
    data = cursor_data(chart, width).replace("<", "\\u003c").replace("&", "\\u0026")
    return Markup(
        f'<figure class="{" ".join(kinds)}" data-points="p-{chart.ident}">'
        f"<figcaption>{text(chart.title)}{_legend(chart)}</figcaption>{drawing(chart, width)}"
        f'<input type="range" min="0" step="1" hidden="" aria-label="{text(chart.title)}: read the values along the curve">'
        f'<output aria-live="polite"></output>'
        f'<script type="application/json" id="p-{chart.ident}">{data}</script>'
        f"{_values(chart)}</figure>"
    )


def _legend(chart: Chart) -> str:
    if len(chart.lines) < 2:
        return ""
    return "".join(
        f'<span class="key k{number % COLOURS}{" dashed" if number >= COLOURS else ""}"></span>{text(line.name)}'
        for number, line in enumerate(chart.lines)
    )


def _values(chart: Chart) -> Markup:
    """A dozen values of each line as a table, for those who cannot see the curve."""
    along = "step" if chart.axis is Axis.STEP else "time"
    rows = []
    for line in chart.lines:
        points = [point for segment in chart.segments(line) for point in segment]
        every = max(1, len(points) // 12)
        chosen = dict.fromkeys([*points[::every], *points[-1:]])
        rows += [
            (line.name, chart.place_text(chart.place(point) or 0.0), chart.text(point).rpartition(": ")[2])
            for point in chosen
        ]
    shown = table(
        ("curve", along, "value"), rows, caption=f"{chart.title}: selected values", numbers=("value",)
    )
    return folded("Values", shown)
