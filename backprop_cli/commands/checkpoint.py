"""`backprop checkpoint RUN`: have a run save now."""

from __future__ import annotations

import click

from backprop_cli.asking import ask
from backprop_cli.parameters import complete_runs
from backprop_core.runs.control import Action


@click.command("checkpoint")
@click.argument("run", shell_complete=complete_runs)
def command(run: str) -> int:
    """Ask RUN to make a checkpoint at its next safe point, and to go on.

    \b
    Example:
      backprop checkpoint 20261123-154248-k3f9
    """
    ask(run, Action.CHECKPOINT, "asked run {0} for a checkpoint; 'backprop status {0}' shows it.")
    return 0
