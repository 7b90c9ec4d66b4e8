"""`backprop checkpoint RUN`: have a run save now."""

from __future__ import annotations

import click

from backprop_cli.asking import ask
from backprop_cli.parameters import complete_runs, json_option
from backprop_core.runs.control import Action


@click.command("checkpoint")
@click.argument("run", shell_complete=complete_runs)
@json_option
def command(run: str, as_json: bool) -> int:
    """Save a checkpoint of RUN at its next safe point, without stopping it.

    \b
    Example:
      backprop checkpoint 20261123-154248-k3f9
    """
    ask(
        run,
        Action.CHECKPOINT,
        "asked run {0} for a checkpoint; 'backprop status {0}' shows it.",
        as_json=as_json,
    )
    return 0
