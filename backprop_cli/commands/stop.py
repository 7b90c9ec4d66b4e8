"""`backprop stop RUN`: end a run with a checkpoint."""

from __future__ import annotations

import click

from backprop_cli.asking import ask
from backprop_cli.parameters import complete_runs, json_option
from backprop_core.runs.control import Action


@click.command("stop")
@click.argument("run", shell_complete=complete_runs)
@json_option
def command(run: str, as_json: bool) -> int:
    """Ask RUN to save a checkpoint and stop. It has --grace seconds to do so.

    \b
    Example:
      backprop stop 20261123-154248-k3f9
    """
    ask(
        run,
        Action.STOP,
        "asked run {0} to save and stop; 'backprop status {0}' shows when it has.",
        as_json=as_json,
    )
    return 0
