"""Tables: rich ones on a terminal, plain columns elsewhere (rich needs seconds for thousands of rows)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from backprop_cli.opening import is_terminal

_STYLES: Mapping[str, str] = {
    "running": "cyan",
    "completed": "green",
    "timeboxed": "yellow",
    "preempted": "yellow",
    "stopped": "yellow",
    "failed": "red",
    "lost": "red",
}


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, styled: str | None = None) -> None:
    """Print rows under columns.

    Args:
        styled: name of the column whose words have colours of their own.
    """
    if is_terminal():
        _show_rich(columns, rows, styled)
    else:
        click.echo(table_text(columns, rows))


def table_text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under columns as plain text."""
    table = [list(columns), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    form = "  ".join(f"%-{width}s" for width in widths)
    return "\n".join([(form % tuple(row)).rstrip() for row in table])


def _show_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], styled: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for row in rows:
        cells = [Text(cell) for cell in row]
        for column, cell in zip(columns, cells, strict=True):
            if column == styled:
                cell.stylize(_STYLES.get(cell.plain, ""))
        table.add_row(*cells)
    Console().print(table)
