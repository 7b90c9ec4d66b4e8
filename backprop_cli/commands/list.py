"""`backprop list`: all runs as a table."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import click

from backprop_cli.opening import is_terminal, open_store, tell, tell_warnings
from backprop_cli.parameters import WholeNumber
from backprop_cli.tables import show_table
from backprop_core.clock import SYSTEM, local_text
from backprop_core.deadline.budget import duration_text
from backprop_core.errors import UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs.labels import read_labels
from backprop_core.runs.listing import RunRow
from backprop_core.runs.selection import Condition, Metrics, duration_s, is_column, parse_condition
from backprop_core.runs.store import RunStore

_ON_A_SCREEN = 50
_SPARE = ("checkpoints", "when", "tags", "loss", "step", "name", "duration")
"""What a narrow terminal is not shown; an id is never cut, because it is typed again."""
_COLUMNS = ("id", "name", "status", "duration", "step", "loss", "checkpoints", "when")


@click.command("list")
@click.option(
    "--status",
    "wanted",
    type=click.Choice([str(s) for s in Outcome]),
    multiple=True,
    help="Only runs with this status. Repeatable.",
)
@click.option("-n", "--name", metavar="TEXT", help="Only runs whose name or id contains this.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Only runs with this tag. Repeatable.")
@click.option("--newer-than", metavar="DURATION", help='Only runs started within this time, such as "2d".')
@click.option("--older-than", metavar="DURATION", help="Only runs started longer ago than this.")
@click.option(
    "--where",
    metavar="CONDITION",
    multiple=True,
    help="Only runs whose step, loss, duration (seconds) or last logged value meets a condition: 'loss<0.5'.",
)
@click.option("--sort", metavar="KEY", help="Sort by a column or a logged value [default: newest first].")
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option(
    "--limit",
    type=WholeNumber(min=1),
    help="Show at most this many  [default: 50 on a terminal]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(**asked: Any) -> int:
    """Show all runs, newest first.

    \b
    Examples:
      backprop list
      backprop list --status timeboxed --status lost
      backprop list --tag baseline --where 'val_loss<0.5' --sort val_loss
      backprop list --newer-than 2d --json
    """
    gc.disable()  # ten thousand rows make no garbage in circles, and looking for some takes a tenth of the time
    selection = _Selection(asked)
    store = open_store(write=False)
    rows = selection.of(store)
    tell_warnings(store)
    limit, as_json = asked["limit"], asked["as_json"]
    if limit is None and is_terminal() and not as_json:
        limit = _ON_A_SCREEN
    shown = rows[:limit]
    if as_json:
        _show_json(store, shown, selection)
        return 0
    if not rows:
        tell(
            "No matching runs."
            if selection.narrows
            else "There are no runs yet. Start with: backprop run train.py"
        )
        return 0
    _show(store, shown, selection)
    if len(shown) < len(rows):
        which = "more" if asked["sort"] or asked["reverse"] else "older"
        tell(f"{len(rows) - len(shown)} {which} runs are not shown; --limit {len(rows)} shows them.")
    return 0


class _Selection:
    """The runs that were asked for, in the order that was asked for. UsageError for what cannot be meant."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self._wanted, self._name, self._tags = asked["wanted"], asked["name"], {*asked["tags"]}
        self._newer_s = _age_s(asked["newer_than"], "--newer-than")
        self._older_s = _age_s(asked["older_than"], "--older-than")
        self._conditions = [*map(parse_condition, asked["where"])]
        self._sort, self._reverse = asked["sort"], asked["reverse"]
        self._metrics: Metrics | None = None
        if self._newer_s is not None and self._older_s is not None and self._newer_s <= self._older_s:
            raise UsageError(
                f"No run is newer than {asked['newer_than']} and older than {asked['older_than']}.",
                "Give --newer-than a longer time than --older-than.",
            )

    @property
    def narrows(self) -> bool:
        ages = (self._newer_s, self._older_s)
        return bool(self._wanted or self._name or self._tags or self._conditions) or ages != (None, None)

    @property
    def extra(self) -> list[str]:
        """The logged values that were asked for and have no column of their own."""
        keys = [condition.metric for condition in self._conditions] + ([self._sort] if self._sort else [])
        return [*dict.fromkeys(key for key in keys if not is_column(key))]

    def of(self, store: RunStore) -> list[RunRow]:
        now = SYSTEM.wall()
        self._metrics = metrics = Metrics(store.home, now)
        rows = [row for row in store.list_rows() if self._matches(row, now)]
        if self._tags:
            rows = [row for row in rows if self._tags <= {*tags_of(store, row)}]
        rows = [row for row in rows if all(self._holds(row, condition) for condition in self._conditions)]
        if self._sort is None:
            return rows[::-1] if self._reverse else rows
        found = metrics.sorted(rows, self._sort, reverse=self._reverse)
        if rows and not is_column(self._sort) and all(self.value(row, self._sort) is None for row in rows):
            known = ", ".join(sorted({*_COLUMNS} | metrics.names()))
            raise UsageError(
                f"No run has logged {self._sort!r}, so --sort cannot use it.", f"Known names: {known}."
            )
        return found

    def value(self, row: RunRow, metric: str) -> float | None:
        return None if self._metrics is None else self._metrics.of(row, metric)

    def _holds(self, row: RunRow, condition: Condition) -> bool:
        return condition.holds(self.value(row, condition.metric))

    def _matches(self, row: RunRow, now: float) -> bool:
        if self._wanted and row.status not in self._wanted:
            return False
        if self._newer_s is not None and row.started_wall < now - self._newer_s:
            return False
        if self._older_s is not None and row.started_wall > now - self._older_s:
            return False
        return self._name is None or self._name in row.id or self._name in (row.name or "")


def _age_s(text: str | None, option: str) -> float | None:
    from backprop_core.deadline.budget import parse_duration

    return None if text is None else parse_duration(text, option, zero_allowed=True)


def tags_of(store: RunStore, row: RunRow) -> tuple[str, ...]:
    """The tags of a run; the npm tool's have none."""
    return () if row.foreign else read_labels(f"{store.home}/runs/{row.id}").tags


def _show(store: RunStore, rows: Sequence[RunRow], selection: _Selection) -> None:
    extra, tags = selection.extra, [tags_of(store, row) for row in rows]
    columns = [*_COLUMNS, *extra, *(["tags"] if any(tags) else [])]
    table = []
    for row, labels in zip(rows, tags, strict=True):
        cells = [*_cells(row), *(_number(selection.value(row, metric)) for metric in extra)]
        table.append((*cells, " ".join(labels) or "-") if any(tags) else tuple(cells))
    show_table(columns, table, styled="status", spare=[name for name in _SPARE if name in columns])


def _cells(row: RunRow) -> tuple[str, ...]:
    took_s = duration_s(row, SYSTEM.wall())
    return (
        row.id,
        row.name or "-",
        "paused" if row.paused else str(row.status),
        "-" if took_s is None else duration_text(took_s),
        "-" if row.last_step is None else str(row.last_step),
        _number(row.last_loss),
        str(row.checkpoints),
        local_text(row.started_wall),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _show_json(store: RunStore, rows: Sequence[RunRow], selection: _Selection) -> None:
    from backprop_core.strict_json import encode

    entries: list[dict[str, Any]] = []
    for row in rows:
        logged = {metric: selection.value(row, metric) for metric in selection.extra}
        entries.append(
            {**row._asdict(), "tags": list(tags_of(store, row)), **({"logged": logged} if logged else {})}
        )
    click.echo(encode(entries, indent=2))
