"""`backprop status`: the machine's resources, or the whole story of a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import click

from backprop_cli.checkpoints import committed, is_remote, is_there
from backprop_cli.opening import one_line, open_store, settings_for, tell_warnings
from backprop_cli.parameters import complete_runs, working_folder
from backprop_cli.paths import given
from backprop_core.clock import SYSTEM, local_text
from backprop_core.config.options import TRAINING
from backprop_core.deadline.budget import duration_text
from backprop_core.errors import UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs.labels import NO_LABELS, read_labels
from backprop_core.runs.liveness import with_live_news
from backprop_core.runs.measured import GovernorFacts, read_measured
from backprop_core.runs.pauses import Pauses, pauses_of
from backprop_core.runs.record import AttemptRecord, RunRecord
from backprop_core.runs.store import RunStore
from backprop_core.strict_json import JSON

WATCH_EVERY_S = 1.0
CURVE_COLUMNS = 40


@click.command("status")
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
@click.option(
    "--config",
    callback=given,
    metavar="PATH",
    help="Configuration file with the limits [default: the nearest one].",
)
def command(run: str | None, as_json: bool, watch: bool, config: str | None) -> int:
    """Show the machine's resources and what would keep a run from starting; with RUN, show its history.

    \b
    Examples:
      backprop status
      backprop status --watch
      backprop status 20261123-154248-k3f9
    """
    if run is not None and config is not None:
        raise UsageError("--config has no effect with RUN.", "Leave one of them out.")
    with closing(_Resources(config) if run is None else _Story(run, watched=watch)) as view:
        while True:
            if watch and not as_json:
                click.clear()
            view.show(as_json)
            if not watch:
                return 0
            SYSTEM.sleep(WATCH_EVERY_S)


class _Story:
    """The story of one run, looked up again each time."""

    def __init__(self, run: str, *, watched: bool = False) -> None:
        self._store = open_store(write=False)
        self._run = run
        self._watched = watched

    def show(self, as_json: bool) -> None:
        from backprop_core.runs.record_json import to_text

        record = self._load()
        folder = self._store.run_dir(record.id) if not record.foreign else None
        record = record if folder is None else with_live_news(record, folder)
        if as_json:
            click.echo(to_text(record))
            return
        click.echo("\n".join([*story(self._store, record), *(self._curve(record) if self._watched else [])]))

    def _curve(self, record: RunRecord) -> list[str]:
        """The loss of the last minutes, small."""
        from backprop_cli.report.braille import spark
        from backprop_cli.report.terminal import knows_braille
        from backprop_core.history.attempt_history import recent_losses

        attempt = record.last_attempt
        if attempt is None or not knows_braille():
            return []
        points = recent_losses(self._store.attempt_dir(record.id, attempt.number))[-2 * CURVE_COLUMNS :]
        curve = spark([point.value for point in points], CURVE_COLUMNS)
        if not curve:
            return []
        seconds = points[-1].at_s - points[0].at_s
        return [f"loss  {curve}  {points[0].value:.4g} to {points[-1].value:.4g} in {duration_text(seconds)}"]

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
    pauses = _pauses_now(store, record)
    lines = [
        f"run {one_line(record.id)}{name}: {record.status.value if pauses.since_wall is None else 'paused'}",
        f"  script       {one_line(shlex.join(record.command))}",
        f"  folder       {one_line(record.cwd)}",
        f"  interpreter  {one_line(record.interpreter)}",
        f"  created      {local_text(record.created_wall)}",
    ]
    if record.git_commit:
        lines.append(f"  git commit   {record.git_commit[:12]}")
    if record.options:
        options = ", ".join(f"{key}={_shown(value)}" for key, value in record.options.items())
        lines.append(f"  options      {one_line(options)}")
    if record.last_step is not None:
        loss = "" if record.last_loss is None else f", loss {record.last_loss:.6g}"
        lines.append(f"  last step    {record.last_step}{loss}")
    lines += _labels(store, record)
    holder = store.holder(record)
    if holder is not None:
        lines.append(f"  waits        process {holder.pid}, to start a box")
    lines.append("attempts")
    for attempt in record.attempts:
        from_training = record.options.get("budget-from") == TRAINING
        lines += _attempt(attempt, pauses, from_training=from_training)
    if not record.attempts:
        lines.append("  none")
    return [*lines, "checkpoints", *_checkpoints(store, record), *([] if holder else _how_to_go_on(record))]


def _labels(store: RunStore, record: RunRecord) -> list[str]:
    """What people have said of it."""
    labels = NO_LABELS if record.foreign else read_labels(store.run_dir(record.id))
    if labels.damage is not None:
        return [f"  labels       cannot be read: {labels.damage}"]
    lines = [f"  tags         {' '.join(labels.tags)}"] if labels.tags else []
    notes = [f"{local_text(note.wall)}  {one_line(' '.join(note.text.split()))}" for note in labels.notes]
    return lines + [f"  {'' if place else 'notes':<11}  {note}" for place, note in enumerate(notes)]


def _pauses_now(store: RunStore, record: RunRecord) -> Pauses:
    """The pauses of the attempt that goes on; none where none does."""
    attempt = record.last_attempt
    if record.status is not Outcome.RUNNING or attempt is None:
        return Pauses()
    return pauses_of(store.attempt_dir(record.id, attempt.number))


def _shown(value: object) -> str:
    """An option's value; minutes are fractions of many digits where they were asked for in seconds."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _attempt(attempt: AttemptRecord, pauses: Pauses, *, from_training: bool) -> list[str]:
    now = SYSTEM.wall()
    runs = attempt.outcome is Outcome.RUNNING
    held = [] if runs else _held(attempt.measured)
    paused_s = pauses.until(now) if runs else sum(seconds for seconds, _ in held)
    took = duration_text(max(0.0, _elapsed_s(attempt, now) - paused_s))
    box = "" if attempt.budget_s is None else f" of {duration_text(attempt.budget_s)}"
    if box and from_training:
        box = f", a box{box} from the first step"
    state = attempt.outcome.value if not runs or pauses.since_wall is None else "paused"
    lines = [f"  {attempt.number}. {local_text(attempt.started_wall)}, {took}{box}: {state}"]
    if runs:
        lines.append(f"     process {attempt.process.pid}")
        lines += _paused_so_far(pauses, now)
    if attempt.reason:
        lines.append(f"     {one_line(attempt.reason)}")
    if attempt.resumed_from:
        lines.append(f"     began from {one_line(attempt.resumed_from)}")
    details = [] if (made := _steps(attempt)) is None else [made]
    if attempt.exit_status is not None:
        details.append(f"exit status {attempt.exit_status}")
    details += _measured(attempt)
    lines += ["     " + ", ".join(details)] if details else []
    return lines + [
        f"     paused for {duration_text(s)}, and the time box waited: {one_line(why)}" for s, why in held
    ]


def _elapsed_s(attempt: AttemptRecord, now: float) -> float:
    """Seconds from its beginning to its end, as they were measured: the wall clock may have been set meanwhile."""
    governor = read_measured(attempt.measured).governor
    if governor is not None and governor.used_s is not None and attempt.ended_wall is not None:
        return governor.used_s
    return (now if attempt.ended_wall is None else attempt.ended_wall) - attempt.started_wall


def _paused_so_far(pauses: Pauses, now: float) -> list[str]:
    if pauses.since_wall is not None:
        since = local_text(pauses.since_wall)
        return [
            f"     paused since {since}, for {duration_text(pauses.until(now))} in all; the time box waits"
        ]
    return (
        [f"     paused for {duration_text(pauses.over_s)}, and the time box waited"] if pauses.over_s else []
    )


def _steps(attempt: AttemptRecord) -> str | None:
    """The steps that an attempt has made; that there was none left to make is no mistake of the count."""
    if attempt.steps == 0 and attempt.outcome is Outcome.COMPLETED:
        return "no steps were left"
    if attempt.steps is None:
        return None
    return "1 step" if attempt.steps == 1 else f"{attempt.steps} steps"


def _measured(attempt: AttemptRecord) -> list[str]:
    measured = read_measured(attempt.measured)
    session, governor = measured.session, measured.governor or GovernorFacts()
    details = []
    if session.framework:
        joined = "attached by backprop" if session.attached else "opened by the script"
        details.append(f"{one_line(session.framework)} session, {joined}")
    if session.reserve_s is not None:
        details.append(f"{session.reserve_s:.2f} s left when training stopped")
    if session.slack_s is not None:
        details.append(f"{session.slack_s:.2f} s left when the box ended")
    if governor.peak_rss_bytes:
        details.append(f"{governor.peak_rss_bytes / 1024**3:.2f} GB of memory at its peak")
    if governor.killed:
        # A session that has said its last word has lost nothing: only its process did not exit by itself.
        told = session.slack_s is not None or attempt.outcome is Outcome.COMPLETED
        details.append("its process did not exit by itself" if told else "killed")
    return details


def _held(measured: Mapping[str, JSON]) -> list[tuple[float, str]]:
    """Each time that an ended attempt was held up: seconds, and why."""
    governor = read_measured(measured).governor or GovernorFacts()
    return [(pause.seconds, pause.why) for pause in governor.pauses if pause.seconds is not None]


def _checkpoints(store: RunStore, record: RunRecord) -> list[str]:
    known = [Path(path) for path in record.checkpoints if not is_remote(path)]
    known += [path for path in committed(store.checkpoints_dir(record)) if path not in known]
    present = [path for path in known if is_there(path)]
    shown = [*filter(is_remote, record.checkpoints), *map(str, present)]
    lines = [f"  {one_line(path)}" for path in shown]
    gone = len(known) - len(present)
    if gone:
        lines.append(f"  ({gone} older checkpoint{'s were' if gone != 1 else ' was'} removed)")
    return lines or ["  none"]


def _how_to_go_on(record: RunRecord) -> list[str]:
    return [f"continue with: backprop resume {record.id}"] if record.resumable else []
