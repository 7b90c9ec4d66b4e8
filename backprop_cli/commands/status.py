"""`backprop status RUN`: the whole story of a run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from backprop_cli.checkpoints import committed, is_remote, is_there
from backprop_cli.opening import open_store, tell_warnings
from backprop_core.budget import duration_text
from backprop_core.clock import SYSTEM, local_text
from backprop_core.outcome import Outcome
from backprop_core.runs.record import AttemptRecord, RunRecord
from backprop_core.runs.store import RunStore


@click.command("status", short_help="Tell the story of a run, or show the machine's resources.")
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str | None, as_json: bool) -> int:
    """Tell the story of RUN: its attempts, why each ended, its checkpoints.

    \b
    Examples:
      backprop status 20261123-154248-k3f9
      backprop status 2026112 --json
    """
    store = open_store(write=False)
    if run is None:
        raise click.UsageError("Give the id of a run; 'backprop list' shows them.")
    record = store.load(run)
    tell_warnings(store)
    if as_json:
        from backprop_core.runs.record_json import to_text

        click.echo(to_text(record))
    else:
        click.echo("\n".join(story(store, record)))
    return 0


def story(store: RunStore, record: RunRecord) -> list[str]:
    """A run's story, line by line."""
    name = f" ({record.name})" if record.name else ""
    lines = [
        f"run {record.id}{name}: {record.status.value}",
        f"  script       {shlex.join(record.command)}",
        f"  folder       {record.cwd}",
        f"  interpreter  {record.interpreter}",
        f"  created      {local_text(record.created_wall)}",
    ]
    if record.git_commit:
        lines.append(f"  git commit   {record.git_commit[:12]}")
    if record.options:
        lines.append("  options      " + ", ".join(f"{key}={value}" for key, value in record.options.items()))
    if record.last_step is not None:
        loss = "" if record.last_loss is None else f", loss {record.last_loss:.6g}"
        lines.append(f"  last step    {record.last_step}{loss}")
    lines.append("attempts")
    for attempt in record.attempts:
        lines += _attempt(attempt)
    if not record.attempts:
        lines.append("  none")
    return [*lines, "checkpoints", *_checkpoints(store, record), *_how_to_go_on(record)]


def _attempt(attempt: AttemptRecord) -> list[str]:
    end = attempt.ended_wall if attempt.ended_wall is not None else SYSTEM.wall()
    took = duration_text(max(0.0, end - attempt.started_wall))
    box = "" if attempt.budget_s is None else f" of {duration_text(attempt.budget_s)}"
    lines = [f"  {attempt.number}. {local_text(attempt.started_wall)}, {took}{box}: {attempt.outcome.value}"]
    if attempt.outcome is Outcome.RUNNING:
        lines.append(f"     process {attempt.process.pid}")
    if attempt.reason:
        lines.append(f"     {attempt.reason}")
    if attempt.resumed_from:
        lines.append(f"     began from {attempt.resumed_from}")
    details = []
    if attempt.steps is not None:
        details.append(f"{attempt.steps} steps")
    if attempt.exit_status is not None:
        details.append(f"exit status {attempt.exit_status}")
    details += _measured(attempt.measured)
    return lines + (["     " + ", ".join(details)] if details else [])


def _measured(measured: Any) -> list[str]:
    details = []
    slack = measured.get("slack_s")
    if isinstance(slack, int | float):
        details.append(f"{slack:.2f} s left after the last save")
    governor = measured.get("governor")
    if isinstance(governor, dict):
        pauses = governor.get("pauses") or []
        if pauses:
            total = sum(pause.get("seconds") or 0.0 for pause in pauses)
            details.append(f"paused {len(pauses)} times for {duration_text(total)}")
        if governor.get("killed"):
            details.append("killed")
    return details


def _checkpoints(store: RunStore, record: RunRecord) -> list[str]:
    known = [Path(path) for path in record.checkpoints if not is_remote(path)]
    known += [path for path in committed(store.checkpoints_dir(record)) if path not in known]
    present = [path for path in known if is_there(path)]
    lines = [f"  {path}" for path in record.checkpoints if is_remote(path)] + [
        f"  {path}" for path in present
    ]
    gone = len(known) - len(present)
    if gone:
        lines.append(f"  ({gone} older ones are not there any more)")
    return lines or ["  none"]


def _how_to_go_on(record: RunRecord) -> list[str]:
    return [f"continue with: backprop resume {record.id}"] if record.resumable else []
