"""`backprop verify RUN|PATH`: read every byte back and say what could be restored."""

from __future__ import annotations

from pathlib import Path

import click

from backprop_cli.finding import Found, find_checkpoints
from backprop_cli.opening import one_line, tell
from backprop_cli.parameters import complete_runs_and_folders
from backprop_core.checkpoints.manifest import address_of
from backprop_core.checkpoints.names import DAMAGED_PREFIX
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.errors import UsageError

EXIT_DAMAGED = 1


@click.command("verify")
@click.argument("run_or_path", metavar="RUN|PATH", shell_complete=complete_runs_and_folders)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run_or_path: str, as_json: bool) -> int:
    """Verify every byte of the checkpoints of RUN, or at PATH.

    The exit status is 1 if anything is damaged, or RUN has no checkpoint; 2 if PATH holds none.

    \b
    Examples:
      backprop verify 20261123-154248-k3f9
      backprop verify ./checkpoints
      backprop verify ./checkpoints/step-000000001234 --json
    """
    found = find_checkpoints(run_or_path)
    results = [(path, store.verify(path)) for store, path in _all(found)]
    damaged = sum(1 for _, problems in results if problems)
    if not results and found.place is not None:
        raise UsageError(
            f"There is no checkpoint of backprop in {found.place}.",
            "Name a run, a checkpoint (step-...), or a folder of checkpoints.",
        )
    if as_json:
        from backprop_core.strict_json import encode_exactly

        entries = [{"path": address_of(path), "damage": problems} for path, problems in results]
        click.echo(encode_exactly(entries, indent=1).decode())
    else:
        _show(results, damaged)
    for other in found.others:
        tell(f"{other} was saved by the script itself; backprop has no digests of it.")
    return EXIT_DAMAGED if damaged or not (results or found.others) else 0


def _all(found: Found) -> list[tuple[CheckpointStore, Path]]:
    if found.only is not None:
        return [(found.stores[0], found.only)]
    return [(store, path) for store in found.stores for path in store.paths(damaged=True)]


def _show(results: list[tuple[Path, list[str]]], damaged: int) -> None:
    for path, problems in results:
        aside = " (set aside)" if path.name.startswith(DAMAGED_PREFIX) else ""
        click.echo(f"{'DAMAGED' if problems else 'good   '}  {one_line(address_of(path))}{aside}")
        for problem in problems:
            click.echo(f"         {one_line(problem)}")
    good = [path for path, problems in results if not problems and not path.name.startswith(DAMAGED_PREFIX)]
    if not results:
        tell("There are no checkpoints, so nothing can be restored.")
    elif good:
        tell(f"{len(good)} of {len(results)} can be restored; the newest is {address_of(good[0])}.")
    else:
        tell(f"None of {len(results)} can be restored.")
