"""`backprop pause RUN`: hold a run up without ending it."""

from __future__ import annotations

import click

from backprop_cli.asking import ask
from backprop_cli.parameters import complete_runs, json_option
from backprop_core.runs.control import Action


@click.command("pause")
@click.argument("run", shell_complete=complete_runs)
@json_option
def command(run: str, as_json: bool) -> int:
    """Pause RUN at its next safe point. Its time box waits; a fixed deadline (SLURM, until) does not.

    \b
    Example:
      backprop pause 20261123-154248-k3f9
    """
    ask(run, Action.PAUSE, "asked run {0} to pause; 'backprop continue {0}' continues it.", as_json=as_json)
    return 0
