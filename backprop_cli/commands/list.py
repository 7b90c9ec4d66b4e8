"""`backprop list`: all runs as a table."""

from __future__ import annotations

import gc
from typing import Any

import click

from backprop_cli.opening import is_terminal, open_store, tell, tell_warnings
from backprop_cli.tables import show_table
from backprop_core.clock import SYSTEM, local_text
from backprop_core.deadline.budget import duration_text
from backprop_core.outcome import Outcome
from backprop_core.runs.listing import RunRow

_ON_A_SCREEN = 50
_SPARE = ("checkpoints", "when", "loss", "step", "name", "duration")
"""What a narrow terminal is not shown; an id is never cut, because it is typed again."""
_COLUMNS = ("id", "name", "status", "duration", "step", "loss", "checkpoints", "when")


@click.command("list")
@click.option(
    "--status", "wanted", type=click.Choice([str(s) for s in Outcome]), multiple=True, help="Only these."
)
@click.option("-n", "--name", metavar="TEXT", help="Only runs whose name or id contains this.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="At most this many, newest first  [default: 50 on a terminal]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(wanted: tuple[str, ...], name: str | None, limit: int | None, as_json: bool) -> int:
    """Show all runs, newest first.

    \b
    Examples:
      backprop list
      backprop list --status timeboxed --status lost
      backprop list --json
    """
    gc.disable()  # ten thousand rows make no garbage in circles, and looking for some takes a tenth of the time
    store = open_store(write=False)
    rows = [row for row in store.list_rows() if _matches(row, wanted, name)]
    tell_warnings(store)
    if limit is None and is_terminal() and not as_json:
        limit = _ON_A_SCREEN
    shown = rows[:limit]
    if as_json:
        _show_json(shown)
        return 0
    if not rows:
        tell(
            "There are no runs yet. Begin with: backprop run train.py"
            if not (wanted or name)
            else "No run matches."
        )
        return 0
    show_table(_COLUMNS, [_cells(row) for row in shown], styled="status", spare=_SPARE)
    if len(shown) < len(rows):
        tell(f"{len(rows) - len(shown)} older runs are not shown; --limit {len(rows)} shows them.")
    return 0


def _matches(row: RunRow, wanted: tuple[str, ...], name: str | None) -> bool:
    if wanted and row.status not in wanted:
        return False
    return name is None or name in row.id or name in (row.name or "")


def _cells(row: RunRow) -> tuple[str, ...]:
    end = (
        row.ended_wall if row.ended_wall is not None else (SYSTEM.wall() if row.status == "running" else None)
    )
    return (
        row.id,
        row.name or "-",
        "paused" if row.paused else str(row.status),
        "-" if end is None else duration_text(max(0.0, end - row.started_wall)),
        "-" if row.last_step is None else str(row.last_step),
        "-" if row.last_loss is None else f"{row.last_loss:.4g}",
        str(row.checkpoints),
        local_text(row.started_wall),
    )


def _show_json(rows: list[RunRow]) -> None:
    from backprop_core.strict_json import encode

    entries: list[dict[str, Any]] = [row._asdict() for row in rows]
    click.echo(encode(entries, indent=2))
