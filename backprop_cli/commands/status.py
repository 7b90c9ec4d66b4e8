"""`backprop status`: the machine's resources, or the whole story of a run."""

from __future__ import annotations

import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from backprop_cli.checkpoints import committed, is_remote, is_there
from backprop_cli.opening import open_store, settings_for, tell_warnings
from backprop_cli.parameters import complete_runs, working_folder
from backprop_cli.tables import one_line
from backprop_core.clock import SYSTEM, local_text
from backprop_core.deadline.budget import duration_text
from backprop_core.outcome import Outcome
from backprop_core.runs.record import AttemptRecord, RunRecord
from backprop_core.runs.store import RunStore

WATCH_EVERY_S = 1.0


@click.command("status")
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@click.option(
    "--config", metavar="PATH", help="Configuration file with the limits, instead of the one that is found."
)
def command(run: str | None, as_json: bool, watch: bool, config: str | None) -> int:
    """Show the machine's resources and what a run would be refused for; with RUN, tell its story.

    \b
    Examples:
      backprop status
      backprop status --watch
      backprop status 20261123-154248-k3f9
    """
    with closing(_Resources(config) if run is None else _Story(run)) as view:
        while True:
            if watch and not as_json:
                click.clear()
            view.show(as_json)
            if not watch:
                return 0
            SYSTEM.sleep(WATCH_EVERY_S)


class _Story:
    """The story of one run, looked up again each time."""

    def __init__(self, run: str) -> None:
        self._store = open_store(write=False)
        self._run = run

    def show(self, as_json: bool) -> None:
        from backprop_core.runs.record_json import to_text

        record = self._load()
        click.echo(to_text(record) if as_json else "\n".join(story(self._store, record)))

    def close(self) -> None:
        """Nothing is kept open."""

    def _load(self) -> RunRecord:
        record = self._store.load(self._run)
        tell_warnings(self._store)
        return record


class _Resources:
    """The machine, looked at again each time."""

    def __init__(self, config: str | None) -> None:
        from backprop_cli.resources import Resources

        self._resources = Resources(settings_for({}, cwd=working_folder(), config=config))

    def show(self, as_json: bool) -> None:
        from backprop_cli.resources import as_json as content
        from backprop_cli.resources import resource_rows
        from backprop_cli.tables import show_table
        from backprop_core.strict_json import encode

        sample, verdict, holders = self._resources.look()
        if as_json:
            click.echo(encode(content(sample, verdict, holders), indent=2))
            return
        columns = ("resource", "now", "limit", "verdict", "detail")
        show_table(columns, resource_rows(sample, verdict), styled="verdict", spare=("detail",), folded="now")
        if holders:
            click.echo(f"running: {', '.join(holder.run_id for holder in holders)}")
        for note in verdict.notes:
            click.echo(note)
        click.echo("a run may start" if verdict.admitted else f"a run would have to wait: {verdict.sentence}")

    def close(self) -> None:
        self._resources.close()


def story(store: RunStore, record: RunRecord) -> list[str]:
    """A run's story, line by line."""
    name = f" ({one_line(record.name)})" if record.name else ""
    lines = [
        f"run {record.id}{name}: {record.status.value}",
        f"  script       {one_line(shlex.join(record.command))}",
        f"  folder       {one_line(record.cwd)}",
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
    holder = store.holder(record)
    if holder is not None:
        lines.append(f"  waits        process {holder.pid}, to begin a box")
    lines.append("attempts")
    for attempt in record.attempts:
        lines += _attempt(attempt)
    if not record.attempts:
        lines.append("  none")
    return [*lines, "checkpoints", *_checkpoints(store, record), *([] if holder else _how_to_go_on(record))]


def _attempt(attempt: AttemptRecord) -> list[str]:
    end = attempt.ended_wall if attempt.ended_wall is not None else SYSTEM.wall()
    took = duration_text(max(0.0, end - attempt.started_wall))
    box = "" if attempt.budget_s is None else f" of {duration_text(attempt.budget_s)}"
    lines = [f"  {attempt.number}. {local_text(attempt.started_wall)}, {took}{box}: {attempt.outcome.value}"]
    if attempt.outcome is Outcome.RUNNING:
        lines.append(f"     process {attempt.process.pid}")
    if attempt.reason:
        lines.append(f"     {one_line(attempt.reason)}")
    if attempt.resumed_from:
        lines.append(f"     began from {attempt.resumed_from}")
    details = []
    if attempt.steps is not None:
        details.append(f"{attempt.steps} steps")
    if attempt.exit_status is not None:
        details.append(f"exit status {attempt.exit_status}")
    details += _measured(attempt.measured)
    return lines + (["     " + ", ".join(details)] if details else []) + _pauses(attempt.measured)


def _measured(measured: Any) -> list[str]:
    details = []
    if isinstance(measured.get("framework"), str):
        joined = "attached by backprop" if measured.get("attached") else "asked for by the script"
        details.append(f"{measured['framework']} session, {joined}")
    slack = measured.get("slack_s")
    if isinstance(slack, int | float):
        details.append(f"{slack:.2f} s left after the last save")
    peak = measured.get("peak_rss_bytes")
    if isinstance(peak, int | float) and peak:
        details.append(f"{peak / 1024**3:.2f} GB of memory at most")
    governor = measured.get("governor")
    if isinstance(governor, dict) and governor.get("killed"):
        details.append("killed")
    return details


def _pauses(measured: Any) -> list[str]:
    """A line for each time it was held up: how long, what that did to the time box, and why."""
    governor = measured.get("governor")
    pauses = governor.get("pauses") if isinstance(governor, dict) else None
    lines = []
    for pause in pauses if isinstance(pauses, list) else []:
        seconds, why = (
            (pause.get(key) for key in ("seconds", "why")) if isinstance(pause, dict) else (None, "")
        )
        if isinstance(seconds, int | float):
            lines.append(f"     paused for {duration_text(seconds)}, and the time box waited: {why}")
    return lines


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
