"""Tables: rich ones on a terminal, plain columns elsewhere (rich needs seconds for thousands of rows)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from backprop_cli.opening import is_terminal, one_line

if TYPE_CHECKING:
    from rich.text import Text

_GAP = 2
_STYLES: Mapping[str, str] = {
    "running": "cyan",
    "paused": "cyan",
    "completed": "green",
    "timeboxed": "yellow",
    "preempted": "yellow",
    "stopped": "yellow",
    "failed": "red",
    "lost": "red",
    "ok": "green",
    "refused": "red",
    "not checked": "yellow",
}


def show_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styled: str | None = None,
    spare: Sequence[str] = (),
    folded: str | None = None,
) -> None:
    """Print rows under columns.

    Args:
        styled: name of the column whose words have colours of their own.
        spare: columns that a narrow terminal is not shown, the first one first.
        folded: the column that takes several lines where even so it is too narrow; others are cut.
    """
    rows = [row if "".join(row).isprintable() else [*map(one_line, row)] for row in rows]  # thousands of them
    if is_terminal():
        _show_rich(columns, rows, styled, spare, folded)
    else:
        click.echo(table_text(columns, rows))


def fitting(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, spare: Sequence[str]
) -> list[int]:
    """The columns that are shown: whole ones are left out, the first of `spare` first, until the rest fits."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    kept = list(range(len(columns)))
    for name in spare:
        if sum(widths[place] + _GAP for place in kept) - _GAP <= width:
            break
        kept.remove(columns.index(name))
    return kept


def table_text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under columns as plain text."""
    table = [list(columns), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    form = "  ".join(f"%-{width}s" for width in widths)
    return "\n".join([(form % tuple(row)).rstrip() for row in table])


def _show_rich(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    styled: str | None,
    spare: Sequence[str],
    folded: str | None,
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    kept = fitting(columns, rows, console.width, spare)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for place in kept:
        folds = columns[place] == folded
        table.add_column(columns[place], overflow="fold" if folds else "ellipsis", no_wrap=not folds)
    for row in rows:
        table.add_row(*(_cell(Text(row[place]), columns[place] == styled) for place in kept))
    console.print(table)


def _cell(text: Text, styled: bool) -> Text:
    if styled:
        text.stylize(_STYLES.get(text.plain, ""))
    return text
