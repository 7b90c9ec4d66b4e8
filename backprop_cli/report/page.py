"""The report as one HTML file: no network, no library, readable without its script."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from backprop_cli.report import facts
from backprop_cli.report.charts import MOST_CHARTS, logged_charts, machine_charts
from backprop_cli.report.facts import MOST_ROWS, PART_TEXTS, PARTS, Report
from backprop_cli.report.markup import (
    Markup,
    code,
    figure,
    folded,
    pairs,
    section,
    status,
    table,
    text,
)
from backprop_cli.report.markup import (
    facts as facts_list,
)
from backprop_core import __version__
from backprop_core.clock import local_text
from backprop_core.deadline.budget import duration_text
from backprop_core.provenance.git_state import GitState
from backprop_core.provenance.packages import frozen

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What the browser is allowed: nothing of anywhere else."""


def page(report: Report) -> str:
    """The whole page."""
    record = report.history.record
    title = f"{record.name or record.id}: backprop report"
    body = Markup(
        "".join(
            [
                _head(report),
                _curves(report),
                _machine(report),
                _time(report),
                _boxes(report),
                _checkpoints(report),
                _pauses(report),
                _environment(report),
            ]
        )
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{text(title)}</title>\n'
        f"<style>\n{_part('page.css')}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#curves">Skip to the curves</a>\n{body}\n'
        f'<footer class="faint">Made by backprop {text(__version__)}, {text(local_text(report.made_wall))}.</footer>\n'
        f"<script>\n{_part('page.js')}</script>\n</body>\n</html>\n"
    )


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _head(report: Report) -> Markup:
    record, labels = report.history.record, report.labels
    tags = "".join(f'<span class="tag">{text(tag)}</span>' for tag in labels.tags)
    notes = "".join(
        f'<p><span class="faint">{text(local_text(note.wall))}</span> {text(note.text)}</p>'
        for note in labels.notes
    )
    named = (
        Markup(f"{text(record.name)} <span class='faint'>{text(record.id)}</span>")
        if record.name
        else text(record.id)
    )
    state = Markup(f'<span class="status">{status(record.status)}</span>')
    return Markup(
        f"<header><h1>{named} {state}</h1><p>{code(shlex.join(record.command))}</p>{tags}{notes}"
        f"{facts_list(facts.headline(report))}</header>"
    )


def _curves(report: Report) -> Markup:
    history = report.history
    charts = logged_charts(history)
    if not charts:
        return section(
            "curves", "Curves", Markup("<p>The script has logged nothing, so there is no curve.</p>")
        )
    switch = Markup(
        "<fieldset><legend>Along</legend>"
        '<label><input type="radio" name="axis" id="by-step" checked> steps</label>'
        '<label><input type="radio" name="axis" id="by-time"> time in the boxes</label></fieldset>'
    )
    figures = []
    for number, (by_step, by_time) in enumerate(charts):
        wide = number == 0
        if by_step is not None:
            figures.append(figure(by_step, wide=wide, switched=True))
        figures.append(figure(by_time, wide=wide, switched=by_step is not None))
    left_out = max(0, len(history.logged_names()) - MOST_CHARTS) + sum(a.left_out for a in history.attempts)
    told = [Markup(f"<p>{left_out} more logged values are not drawn.</p>")] if left_out else []
    key = Markup(
        '<p class="faint">Each box has its own ground. Triangles are checkpoints, diamonds those saved from the memory of '
        "a process that had died, shaded stretches are pauses, crosses are values that are no number.</p>"
    )
    return section("curves", "Curves", switch, key, _grid(figures), *told)


def _machine(report: Report) -> Markup:
    charts = machine_charts(report.history)
    if not charts:
        return section(
            "machine",
            "The machine",
            Markup("<p>Nothing was measured: the run had no <code>backprop run</code>.</p>"),
        )
    return section("machine", "The machine", _grid([figure(chart) for chart in charts]))


def _grid(figures: Sequence[Markup]) -> Markup:
    return Markup(f'<div class="charts">{"".join(figures)}</div>')


def _time(report: Report) -> Markup:
    rows = []
    for number, parts, total_s in facts.spent_rows(report):
        widths = [(name, 100 * (parts[name] or 0.0) / total_s if total_s else 0.0) for name in PARTS]
        bar = "".join(
            f'<span class="{name}" style="width:{width:.2f}%"></span>' for name, width in widths if width
        )
        cells = [
            "unknown" if parts[name] is None else duration_text(parts[name] or 0.0)
            for name in ("waiting", *PARTS)
        ]
        rows.append((number, *cells, Markup(f'<div class="bar" aria-hidden="true">{bar}</div>')))
    legend = "".join(f'<span class="swatch {name}"></span>{text(PART_TEXTS[name])}' for name in PARTS)
    columns = ("box", *(PART_TEXTS[name] for name in ("waiting", *PARTS)), "")
    shown = table(
        columns,
        rows,
        caption="Where the time of each box went; waiting comes before the box",
        numbers=columns[1:-1],
    )
    told = []
    if forecasts := facts.forecast_rows(report):
        columns = ("box", "steps expected", "steps made", "boxes needed")
        told.append(table(columns, forecasts, caption="Forecast and outcome", numbers=columns[1:]))
    return section("time", "Time spent", Markup(f'<p aria-hidden="true">{legend}</p>'), shown, *told)


def _boxes(report: Report) -> Markup:
    rows = [
        (n, when, status(how), took, steps, why) for n, when, how, took, steps, why in facts.box_rows(report)
    ]
    columns = ("box", "began", "ended", "length", "steps", "why it ended")
    told = [table(columns, rows, caption="The time boxes")] if rows else [Markup("<p>There was none.</p>")]
    if warnings := facts.warning_rows(report):
        told.append(
            folded(
                f"{len(warnings)} warnings",
                table(("box", "warning"), warnings[-MOST_ROWS:], caption="Warnings"),
            )
        )
    return section("boxes", "Boxes", *told)


def _checkpoints(report: Report) -> Markup:
    rows = facts.checkpoint_rows(report)
    if not rows:
        return section("checkpoints", "Checkpoints", Markup("<p>There is none.</p>"))
    columns = ("step", "made", "why", "size", "saved in", "state", "path")
    shown = [(*row[:-1], code(row[-1])) for row in rows[:MOST_ROWS]]
    caption = (
        f"The newest {MOST_ROWS} of {len(rows)}" if len(rows) > MOST_ROWS else "Checkpoints, newest first"
    )
    return section(
        "checkpoints",
        "Checkpoints",
        table(columns, shown, caption=caption, numbers=("step", "size", "saved in")),
    )


def _pauses(report: Report) -> Markup:
    rows = facts.pause_rows(report)
    if not rows:
        return Markup()
    shown = table(("box", "at", "for", "why"), rows[-MOST_ROWS:], caption="Pauses (the time box waits)")
    return section("pauses", "Pauses", shown)


def _environment(report: Report) -> Markup:
    rows = [(name, code(value)) for name, value in facts.environment_rows(report)]
    told = [pairs(rows, caption="Environment of the last box")]
    if changed := facts.changed_rows(report):
        columns = ("box", "what", "before", "from then on")
        told.append(Markup("<h3>What was not the same in every box</h3>"))
        told.append(table(columns, changed[:MOST_ROWS], caption="Compared with the box before"))
    elif len(report.started) > 1:
        told.append(Markup("<p>Code, packages, machine and arguments were the same in every box.</p>"))
    last = facts.newest_provenance(report)
    if last is None:
        told.append(Markup("<p>There is no record of the code and packages that this was started from.</p>"))
        return section("environment", "Environment", *told)
    if last.git is not None:
        told += _git(last.git)
    if last.packages is not None:
        title = f"{len(last.packages)} packages"
        told.append(folded(title, Markup(f"<pre>{text(frozen(last.packages))}</pre>")))
    return section("environment", "Environment", *told)


def _git(git: GitState) -> list[Markup]:
    told = [Markup(f"<p>{text(git.note)}</p>")] if git.note else []
    if git.diff:
        lines = (_diff_line(line) for line in git.diff.splitlines())
        told.append(folded("Changed since the commit", Markup(f"<pre>{chr(10).join(lines)}</pre>")))
    elif git.diff is not None:
        told.append(Markup("<p>Nothing that git knows had been changed since the commit.</p>"))
    if git.untracked:
        names = text("\n".join(git.untracked))
        told.append(folded(f"{len(git.untracked)} untracked files", Markup(f"<pre>{names}</pre>")))
    return told


def _diff_line(line: str) -> str:
    kind = {"+": "ins", "-": "del"}.get(line[:1])
    return text(line) if kind is None else f"<{kind}>{text(line)}</{kind}>"
