"""`backprop note RUN TEXT`: what a person wants to remember of a run."""

from __future__ import annotations

import click

from backprop_cli.labelling import labelled_folder
from backprop_cli.opening import one_line, tell
from backprop_cli.parameters import complete_runs, json_option
from backprop_core.clock import SYSTEM, local_text


@click.command("note")
@click.argument("run", shell_complete=complete_runs)
@click.argument("text", nargs=-1, metavar="[TEXT]")
@json_option
def command(run: str, text: tuple[str, ...], as_json: bool) -> int:
    """Add TEXT to RUN as a note; without TEXT, show its notes, oldest first.

    This works while RUN trains, too. 'backprop status RUN' and 'backprop report RUN' show them.

    \b
    Examples:
      backprop note 20261123-154248-k3f9 "learning rate halved at the second box"
      backprop note 20261123-154248-k3f9
    """
    from backprop_core.runs.labels import add_note, read_labels

    run_id, folder = labelled_folder(run)
    labels = add_note(folder, " ".join(text), SYSTEM) if text else read_labels(folder)
    if as_json:
        from backprop_cli.summary import show_object

        show_object(run_id=run_id, notes=[{"wall": note.wall, "text": note.text} for note in labels.notes])
        return 0
    if labels.damage is not None:
        tell(f"The labels of run {run_id} cannot be read: {labels.damage}.")
        return 0
    for note in labels.notes[-1:] if text else labels.notes:
        click.echo(f"{local_text(note.wall)}  {one_line(' '.join(note.text.split()))}")
    if not labels.notes:
        tell(f"run {run_id} has no notes.")
    return 0
