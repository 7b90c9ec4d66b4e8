"""`backprop checkpoints RUN`: a run's checkpoints as a table."""

from __future__ import annotations

from pathlib import Path

import click

from backprop_cli.finding import Found, find_checkpoints
from backprop_cli.opening import one_line, tell
from backprop_cli.parameters import complete_runs_and_folders
from backprop_cli.tables import show_table
from backprop_core.checkpoints.manifest import CheckpointInfo, address_of
from backprop_core.clock import local_text

_SPARE = ("saved in", "why", "when", "size")
"""What a narrow terminal is not shown."""
_COLUMNS = ("step", "when", "why", "size", "saved in", "verified", "path")


@click.command("checkpoints")
@click.argument("run_or_path", metavar="RUN|PATH", shell_complete=complete_runs_and_folders)
@click.option("--verify/--no-verify", default=True, help="Verify every byte  [default: verify]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--state", is_flag=True, help="List the script state in the newest checkpoint, by name.")
def command(run_or_path: str, verify: bool, as_json: bool, state: bool) -> int:
    """Show the checkpoints of RUN, or in the folder PATH, newest first.

    \b
    Examples:
      backprop checkpoints 20261123-154248-k3f9
      backprop checkpoints ./checkpoints --no-verify --json
    """
    found = find_checkpoints(run_or_path)
    infos = [(store, info) for store in found.stores for info in store.list()]
    if found.only is not None:
        infos = [(store, info) for store, info in infos if info.path == found.only]
    if state:
        return _show_state([info for _, info in infos], as_json=as_json)
    sound = [None if not verify else not store.verify(info) for store, info in infos]
    rows = [(info, good) for (_, info), good in zip(infos, sound, strict=True)]
    if as_json:
        from backprop_core.strict_json import encode_exactly

        click.echo(encode_exactly([_entry(info, good) for info, good in rows], indent=1).decode())
        return 0
    if rows:
        show_table(_COLUMNS, [_cells(info, good) for info, good in rows], spare=_SPARE, folded=_COLUMNS[-1])
    else:
        tell("There are no checkpoints.")
    for path in _without_manifest(found, {info.path for _, info in infos}):
        tell(f"{address_of(path)} is damaged: its manifest cannot be read. 'backprop verify' says more.")
    for other in found.others:
        click.echo(f"saved by the script itself: {one_line(other)}")
    return 0


def _show_state(infos: list[CheckpointInfo], *, as_json: bool) -> int:
    """One name a line: what the script itself changed and the newest checkpoint holds."""
    from backprop_cli.state_names import state_names

    if not infos:
        tell("There are no checkpoints.")
        return 0
    names = state_names(infos[0])
    if as_json:
        from backprop_core.strict_json import encode_exactly

        click.echo(encode_exactly(names, indent=1).decode())
        return 0
    for name in names:
        click.echo(one_line(name))
    if not names:
        tell(f"{infos[0].address} holds no script state.")
    return 0


def _without_manifest(found: Found, shown: set[Path]) -> list[Path]:
    """What lies there like a checkpoint and says nothing of itself."""
    named = [found.only] if found.only else [path for store in found.stores for path in store.paths()]
    return [path for path in named if path not in shown]


def _cells(info: CheckpointInfo, good: bool | None) -> tuple[str, ...]:
    return (
        str(info.step),
        local_text(info.wall_s),
        info.facts.reason.value,
        size_text(info.nbytes),
        f"{info.save_s:.2f} s",
        "-" if good is None else "yes" if good else "DAMAGED",
        info.address,
    )


def _entry(info: CheckpointInfo, good: bool | None) -> dict[str, int | float | str | bool | None]:
    return {
        "step": info.step,
        "madeAt": info.wall_s,
        "reason": info.facts.reason.value,
        "bytes": info.nbytes,
        "saveSeconds": info.save_s,
        "slackSeconds": info.facts.slack_s,
        "verified": good,
        "run": info.facts.run_id,
        "attempt": info.facts.attempt,
        "path": info.address,
    }


def size_text(nbytes: int) -> str:
    """Bytes for people: `12.3 MB`, powers of ten."""
    if nbytes < 1000:
        return f"{nbytes} B"
    size = float(nbytes)
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"
