"""`backprop prune`: remove old runs, or the older checkpoints of all runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from backprop_cli.checkpoints import committed, damage_in
from backprop_cli.opening import open_store, tell, tell_warnings
from backprop_cli.parameters import json_option
from backprop_cli.summary import show_object
from backprop_core.clock import SYSTEM, local_text
from backprop_core.deadline.budget import parse_duration
from backprop_core.errors import BackpropError, UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs.listing import RunRow
from backprop_core.runs.store import RunStore
from backprop_core.script_files.hidden import show_hidden_of

KEPT_CHECKPOINTS = 2
_ENDED = [str(status) for status in Outcome if status is not Outcome.RUNNING]


@click.command("prune")
@click.option(
    "--older-than",
    default="30d",
    metavar="DURATION",
    show_default=True,
    help="Only runs that ended longer ago than this.",
)
@click.option(
    "--status",
    "wanted",
    type=click.Choice(_ENDED),
    multiple=True,
    help="Only runs with this status. Repeatable.",
)
@click.option("--checkpoints", "only_checkpoints", is_flag=True,
              help=f"Keep the runs, and the newest {KEPT_CHECKPOINTS} intact checkpoints of each.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be removed, without removing it.")
@click.option("-y", "--yes", is_flag=True, help="Remove without asking.")
@json_option
def command(
    older_than: str, wanted: tuple[str, ...], only_checkpoints: bool, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Remove runs that ended long ago, with the checkpoints in their folders.

    Active runs and checkpoints outside of $BACKPROP_HOME are never touched. With --checkpoints those that stay
    are verified first: a damaged one does not count.

    \b
    Examples:
      backprop prune --dry-run
      backprop prune --older-than 7d --status failed
      backprop prune --checkpoints --older-than 0s --yes
    """
    age_s = parse_duration(older_than, "--older-than", zero_allowed=True)
    store = open_store(write=not dry_run)
    rows = [row for row in store.list_rows() if _matches(store, row, wanted, SYSTEM.wall() - age_s)]
    tell_warnings(store)
    plan = [(row, _doomed(store, row, only_checkpoints)) for row in rows]
    plan = [(row, folders) for row, folders in plan if folders]
    if not plan:
        tell("There is nothing to remove.")
        return _shown([], [], 0, as_json)
    total = sum(_bytes_in(folder) for _, folders in plan for folder in folders)
    for row, folders in [] if as_json else plan:
        what = f"{len(folders)} checkpoints" if only_checkpoints else "everything"
        click.echo(f"{row.id}  {row.status.value:<9}  {local_text(row.started_wall)}  {what}")
    question = f"{len(plan)} runs, {total / 1024**2:.1f} MB"
    if dry_run:
        tell(f"would remove from {question}.")
        return _shown([], [row.id for row, _ in plan], total, as_json)
    if not yes and not _wanted(f"Remove from {question}?"):
        tell("Nothing was removed.")
        return _shown([], [row.id for row, _ in plan], total, as_json)
    left = _remove(store, plan, only_checkpoints)
    _shown([row.id for row, _ in plan if row.id not in left], left, total, as_json)
    return 1 if left else 0


def _shown(removed: list[str], left: list[str], total_bytes: int, as_json: bool) -> int:
    if as_json:
        show_object(removed=removed, left=left, bytes=total_bytes)
    return 0


def _wanted(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # Ctrl-C, or nobody is there to ask
        click.echo(err=True)
        raise UsageError(
            "Nothing was removed: the question was not answered.", "Add --yes to remove without asking."
        ) from None


def _matches(store: RunStore, row: RunRow, wanted: tuple[str, ...], before_wall: float) -> bool:
    if row.foreign or row.status is Outcome.RUNNING or (wanted and row.status not in wanted):
        return False
    return (row.ended_wall or row.started_wall) <= before_wall


def _doomed(store: RunStore, row: RunRow, only_checkpoints: bool) -> list[Path]:
    """The folders that go: the run's own, or its older checkpoints."""
    folder = store.run_dir(row.id)
    if not only_checkpoints:
        return [folder] if folder.is_dir() else []
    found = committed(folder / "checkpoints")
    damaged = sorted((folder / "checkpoints").glob("damaged-*"))
    if len(found) <= KEPT_CHECKPOINTS and not damaged:
        return []
    whole = 0
    for place, path in reversed(list(enumerate(found))):
        whole += not damage_in(str(path))
        if whole == KEPT_CHECKPOINTS:
            return [*damaged, *found[:place]]
    return []  # too few are whole: even a damaged one may still be of use


def _remove(store: RunStore, plan: list[tuple[RunRow, list[Path]]], only_checkpoints: bool) -> list[str]:
    """Remove what was planned; the ids of the runs that could not be touched."""
    left = []
    for row, folders in plan:
        try:
            with store.hold(row.id) as hold:
                if only_checkpoints:
                    for folder in folders:
                        shutil.rmtree(folder)
                elif show_hidden_of(str(store.run_dir(row.id))):
                    store.remove(hold)
                else:
                    raise OSError("files of its script lie in it and cannot be put back into their places")
        except (BackpropError, OSError) as error:
            tell(f"run {row.id} was kept: {error}")
            left.append(row.id)
    tell_warnings(store)
    tell(f"removed from {len(plan) - len(left)} runs.")
    return left


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
