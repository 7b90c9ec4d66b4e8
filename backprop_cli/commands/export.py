"""`backprop export RUN|PATH --to DIR`: files that other programs open."""

from __future__ import annotations

from pathlib import Path

import click

from backprop_cli.finding import Found, find_checkpoints
from backprop_cli.opening import tell
from backprop_cli.parameters import WholeNumber, complete_runs_and_folders, json_option
from backprop_cli.paths import check_can_make, given
from backprop_cli.summary import show_object
from backprop_core.checkpoints.manifest import address_of
from backprop_core.export import export_checkpoint


@click.command("export")
@click.argument("run_or_path", metavar="RUN|PATH", shell_complete=complete_runs_and_folders)
@click.option(
    "--to",
    "directory",
    required=True,
    callback=given,
    metavar="DIR",
    help="Target folder; created if missing.",
)
@click.option("--step", type=WholeNumber(min=0), help="The checkpoint of this step  [default: the newest]")
@json_option
def command(run_or_path: str, directory: str, step: int | None, as_json: bool) -> int:
    """Write the newest intact checkpoint of RUN, or the one at PATH, as plain files into DIR.

    Each tracked object becomes a .safetensors file and a .pt file that torch.load opens with
    weights_only=True.

    \b
    Examples:
      backprop export 20261123-154248-k3f9 --to exported
      backprop export ./checkpoints/step-000000001234 --to exported
    """
    path, target = _chosen(find_checkpoints(run_or_path), step), Path(directory).expanduser()
    check_can_make("--to", target)
    written = export_checkpoint(path, target, told=tell)
    if as_json:
        show_object(checkpoint=address_of(path), written=[str(file) for file in written])
        return 0
    for file in written:
        click.echo(str(file))
    return 0


def _chosen(found: Found, step: int | None) -> Path:
    if found.only is not None:
        return found.only
    infos = [info for store in found.stores for info in store.list() if step is None or info.step == step]
    store_of = {info.path: store for store in found.stores for info in store.list()}
    for info in sorted(infos, key=lambda info: (info.step, info.wall_s), reverse=True):
        damage = store_of[info.path].verify(info)
        if not damage:
            return info.path
        tell(f"{address_of(info.path)} is damaged and was skipped: {damage[0]}")
    which = "" if step is None else f" of step {step}"
    raise click.UsageError(
        f"There is no intact checkpoint{which}; 'backprop checkpoints' lists what there is."
    )
