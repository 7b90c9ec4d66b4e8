"""`backprop continue RUN`: let a paused run go on."""

from __future__ import annotations

import click

from backprop_cli.asking import ask
from backprop_cli.parameters import complete_runs, json_option
from backprop_core.runs.control import Action


@click.command("continue")
@click.argument("run", shell_complete=complete_runs)
@json_option
def command(run: str, as_json: bool) -> int:
    """Continue RUN after 'backprop pause'.

    \b
    Example:
      backprop continue 20261123-154248-k3f9
    """
    ask(run, Action.CONTINUE, "asked run {0} to continue.", as_json=as_json)
    return 0
