"""`backprop diff RUN RUN`: what is different between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click

from backprop_cli.opening import one_line, open_store, tell, tell_warnings
from backprop_cli.parameters import complete_runs
from backprop_cli.tables import show_table
from backprop_core.clock import SYSTEM
from backprop_core.errors import UsageError
from backprop_core.history.differences import (
    CurveDifference,
    FieldDifference,
    RunDifference,
    ValuesAt,
    compare_runs,
)
from backprop_core.history.run_history import RunHistory, run_history
from backprop_core.provenance.attempt_provenance import Provenance, read_provenance
from backprop_core.runs.liveness import with_live_news
from backprop_core.runs.store import RunStore

_PARTS = {
    "arguments": "arguments",
    "settings": "settings",
    "environment": "environment",
    "packages": "packages",
    "position": "position in the data",
    "results": "results",
}
_LONGEST = 60


@click.command("diff")
@click.argument("run", shell_complete=complete_runs)
@click.argument("other", shell_complete=complete_runs)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, other: str, as_json: bool) -> int:
    """Compare two runs: arguments, settings, environment, packages, changed code, results, curves.

    Only differences are shown. Code and packages are those of the last box of each.

    \b
    Examples:
      backprop diff 20261123-154248-k3f9 20261124-091500-a7b2
      backprop diff baseline-1 baseline-2 --json
    """
    store = open_store(write=False)
    histories, started = [], []
    for name in (run, other):
        history, provenance = _look_up(store, name)
        histories.append(history)
        started.append(provenance)
    tell_warnings(store)
    ids = [history.record.id for history in histories]
    if ids[0] == ids[1]:
        raise UsageError(f"{run!r} and {other!r} are both run {ids[0]}.", "Name two runs.")
    found = compare_runs(histories[0], histories[1], started[0], started[1])
    if as_json:
        from backprop_core.strict_json import encode

        click.echo(encode({"runs": ids, **asdict(found)}, indent=2))
        return 0
    for history, provenance in zip(histories, started, strict=True):
        if provenance is None:
            tell(f"run {history.record.id} has no record of its code and packages.")
    _show(ids, found)
    return 0


def _look_up(store: RunStore, name: str) -> tuple[RunHistory, Provenance | None]:
    record = store.load(name)
    if record.foreign:
        return run_history(store.home, record, SYSTEM.wall()), None
    folder = store.run_dir(record.id)
    record = with_live_news(record, folder)
    return run_history(folder, record, SYSTEM.wall()), read_provenance(folder, len(record.attempts))


def _show(ids: Sequence[str], found: RunDifference) -> None:
    shown = False
    for part, title in _PARTS.items():
        rows: tuple[FieldDifference, ...] = getattr(found, part)
        if rows:
            shown = _heading(title, shown)
            show_table(
                ("", *ids), [(row.what, _cell(row.before), _cell(row.after)) for row in rows], folded=ids[1]
            )
    if found.git_diff:
        shown = _heading("uncommitted changes of each", shown)
        for line in found.git_diff:
            click.echo(one_line(line))
    if found.curves:
        shown = _heading("curves", shown)
        for curve in found.curves:
            _show_curve(ids, curve)
    if not shown:
        tell("No differences.")


def _heading(title: str, behind: bool) -> bool:
    click.echo(f"\n{title}" if behind else title)
    return True


def _show_curve(ids: Sequence[str], curve: CurveDifference) -> None:
    name = one_line(curve.name)
    if curve.first is not None:
        first = curve.first
        click.echo(f"{name}: first difference at step {first.step}: {first.before!r} and {first.after!r}")
    elif curve.common_steps:
        click.echo(f"{name}: identical at all {curve.common_steps} steps that both runs recorded")
    else:
        click.echo(f"{name}: no step was recorded by both runs")
    if curve.places and (curve.first is not None or not curve.common_steps):
        show_table(("step", *ids), [_place(place) for place in curve.places])


def _place(place: ValuesAt) -> tuple[str, str, str]:
    mark = "~" if place.between else ""
    return str(place.step), f"{mark}{place.before:.6g}", f"{mark}{place.after:.6g}"


def _cell(value: str | None) -> str:
    if value is None:
        return "-"
    return value if len(value) <= _LONGEST else value[: _LONGEST - 3] + "..."
