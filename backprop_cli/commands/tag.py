"""`backprop tag RUN`: a run's tags."""

from __future__ import annotations

import click

from backprop_cli.labelling import labelled_folder
from backprop_cli.opening import tell
from backprop_cli.parameters import complete_runs, json_option
from backprop_core.clock import SYSTEM
from backprop_core.errors import UsageError


class _TagCommand(click.Command):
    """A command whose words may begin with a minus: `-slow` removes a tag and is no option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        own, rest = args[:cut], args[cut + 1 :]
        options = [word for word in own if word.startswith("--") or word == "-h"]
        words = [word for word in own if word not in options]
        return super().parse_args(ctx, [*options, "--", *words, *rest])


@click.command("tag", cls=_TagCommand)
@click.argument("run", shell_complete=complete_runs)
@click.argument("changes", nargs=-1, metavar="[+TAG|-TAG...]")
@json_option
def command(run: str, changes: tuple[str, ...], as_json: bool) -> int:
    """Add tags to RUN (+TAG or TAG) and remove tags (-TAG); without any, show its tags.

    This works while RUN trains, too. 'backprop list --tag TAG' finds it.

    \b
    Examples:
      backprop tag 20261123-154248-k3f9 +baseline +lr=0.1
      backprop tag 20261123-154248-k3f9 -baseline
      backprop tag 20261123-154248-k3f9
    """
    from backprop_core.runs.labels import change_tags, read_labels

    added = [word.removeprefix("+") for word in changes if not word.startswith("-")]
    removed = [word[1:] for word in changes if word.startswith("-")]
    if both := sorted({*added} & {*removed}):
        raise UsageError(f"{both[0]!r} is both added and removed.", "Choose one.")
    run_id, folder = labelled_folder(run)
    labels = change_tags(folder, added, removed, SYSTEM) if changes else read_labels(folder)
    if as_json:
        from backprop_cli.summary import show_object

        show_object(run_id=run_id, tags=list(labels.tags))
    elif labels.damage is not None:
        tell(f"The labels of run {run_id} cannot be read: {labels.damage}.")
    elif labels.tags:
        click.echo(" ".join(labels.tags))
    else:
        tell(f"run {run_id} has no tags.")
    return 0
