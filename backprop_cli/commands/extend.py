"""`backprop extend RUN DURATION`: give a run more time."""

from __future__ import annotations

import click

from backprop_cli.asking import ask
from backprop_cli.parameters import complete_runs, json_option
from backprop_core.deadline.budget import duration_text, parse_duration
from backprop_core.runs.control import Action


@click.command("extend")
@click.argument("run", shell_complete=complete_runs)
@click.argument("duration")
@json_option
def command(run: str, duration: str, as_json: bool) -> int:
    """Extend the time box of RUN by DURATION, such as 5m or 1h30m.

    \b
    Example:
      backprop extend 20261123-154248-k3f9 5m
    """
    seconds = parse_duration(duration, "DURATION")
    done = f"asked run {{0}} to train for {duration_text(seconds)} more."
    ask(run, Action.EXTEND, done, extend_s=seconds, as_json=as_json)
    return 0
