"""What a report tells beside the curves, in words and numbers, for the page and for the terminal alike."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from backprop_cli.checkpoints import is_remote, is_there
from backprop_cli.commands.checkpoints import size_text
from backprop_core.clock import local_text
from backprop_core.deadline.budget import duration_text
from backprop_core.history.differences import between_attempts
from backprop_core.history.run_history import RunHistory, energy_of, forecast_of, repeated_steps, time_spent
from backprop_core.outcome import Outcome
from backprop_core.provenance.attempt_provenance import Provenance
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.labels import Labels
from backprop_core.strict_json import as_whole

MOST_ROWS = 200
"""Checkpoints, pauses and warnings that are shown, the newest."""
PARTS = ("starting", "training", "saving", "paused", "leaving")
PART_TEXTS: Mapping[str, str] = {
    "waiting": "waiting for resources",
    "starting": "starting up",
    "training": "training",
    "saving": "waiting for a checkpoint",
    "paused": "paused",
    "leaving": "leaving",
}


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report shows.

    Attributes:
        history: the run.
        labels: its tags and notes.
        verified: damage of each checkpoint that was read back, by path; an empty text for one that is whole.
        started: what each attempt was started from, by number, where it was kept.
        made_wall: when this was put together, seconds since 1970.
    """

    history: RunHistory
    labels: Labels
    verified: Mapping[str, str]
    made_wall: float
    started: Mapping[int, Provenance]


def headline(report: Report) -> list[tuple[str, str]]:
    """The few things that are read first."""
    history, record = report.history, report.history.record
    spent = [time_spent(attempt) for attempt in history.attempts]
    rows = [
        ("last step", "unknown" if record.last_step is None else str(record.last_step)),
        ("last loss", "unknown" if record.last_loss is None else f"{record.last_loss:.6g}"),
        ("time boxes", str(len(history.attempts))),
        ("time used", duration_text(history.total_s)),
        ("time training", duration_text(sum(part.training_s for part in spent))),
        ("checkpoints", str(len(checkpoint_rows(report)))),
    ]
    peak = max(
        (as_whole(a.record.measured.get("peak_rss_bytes"), least=1) or 0 for a in history.attempts), default=0
    )
    gpus, cpus = energy_of(history)
    rows += [] if gpus is None else [("energy of its GPUs", f"{gpus.watt_hours:.3g} Wh, {gpus.word}")]
    rows += (
        [] if cpus is None else [("energy of the machine's CPUs", f"{cpus.watt_hours:.3g} Wh, {cpus.word}")]
    )
    return rows + ([("peak memory", size_text(peak))] if peak else [])


def spent_rows(report: Report) -> list[tuple[int, dict[str, float | None], float]]:
    """For each box its number, the seconds of each part (None where it is not known), and all of them but the waiting."""
    rows = []
    for attempt in report.history.attempts:
        spent = time_spent(attempt)
        parts = {"waiting": spent.waiting_s, "starting": spent.starting_s, "training": spent.training_s}
        parts |= {"saving": spent.saving_s, "paused": spent.paused_s, "leaving": spent.leaving_s}
        rows.append((attempt.record.number, parts, attempt.total_s))
    return rows


def box_rows(report: Report) -> list[tuple[str, str, Outcome, str, str, str]]:
    """For each box: number, beginning, outcome, length, steps, and why it ended."""
    rows = []
    repeated = repeated_steps(report.history.attempts)
    for attempt, again in zip(report.history.attempts, repeated, strict=True):
        record = attempt.record
        box = "" if record.budget_s is None else f" of {duration_text(record.budget_s)}"
        steps = [] if record.steps is None else [str(record.steps)]
        steps += [f"from step {attempt.resumed_step}"] if attempt.resumed_step is not None else []
        steps += [f"{again} of them repeated"] if again else []
        why = record.reason or ("still running" if record.outcome is Outcome.RUNNING else "unknown")
        if record.exit_status:
            why = f"{why.rstrip('.')}; exit status {record.exit_status}."
        rows.append(
            (
                str(record.number),
                local_text(record.started_wall),
                record.outcome,
                duration_text(attempt.total_s) + box,
                ", ".join(steps) or "unknown",
                why,
            )
        )
    return rows


def forecast_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """For each box that forecast anything: number, steps expected, steps that came, boxes needed."""
    rows = []
    for attempt in report.history.attempts:
        forecast = forecast_of(attempt)
        if forecast is None:
            continue
        came = forecast.came_steps
        share = f" ({came / forecast.fit_steps:.0%})" if came is not None and forecast.fit_steps else ""
        rows.append(
            (
                str(attempt.record.number),
                str(forecast.fit_steps),
                "unknown" if came is None else f"{came}{share}",
                "unknown" if forecast.boxes is None else str(forecast.boxes),
            )
        )
    return rows


def checkpoint_rows(report: Report) -> list[tuple[str, str, str, str, str, str, str]]:
    """Step, when, why, size, seconds, state and path of each checkpoint that is known, newest first."""
    history = report.history
    rows, seen = [], set()
    for made in reversed(history.checkpoints()):
        seen.add(made.path)
        rows.append(
            (
                "-" if made.step is None else str(made.step),
                "-" if made.wall is None else local_text(made.wall),
                made.why or "saved by the script",
                "-" if made.nbytes is None else size_text(made.nbytes),
                "-" if made.seconds is None else f"{made.seconds:.2f} s",
                _state(report, made.path),
                made.path,
            )
        )
    others = [path for path in reversed(history.record.checkpoints) if path not in seen]
    return rows + [("-", "-", "saved by the script", "-", "-", _state(report, path), path) for path in others]


def pause_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Box, moment within all boxes, length and cause of each pause, oldest first."""
    return [
        (
            str(attempt.record.number),
            duration_text(pause.at_s),
            "not over yet" if pause.seconds is None else duration_text(pause.seconds),
            pause.why or "requested",
        )
        for attempt in report.history.attempts
        for pause in attempt.pauses
    ]


def warning_rows(report: Report) -> list[tuple[str, str]]:
    """Box and text of what was warned of."""
    return [
        (str(attempt.record.number), warning)
        for attempt in report.history.attempts
        for warning in attempt.warnings
    ]


def environment_rows(report: Report) -> list[tuple[str, str]]:
    """Environment of the last box, as far as it was kept."""
    record = report.history.record
    rows = [("folder", record.cwd), ("interpreter", record.interpreter), ("Python", record.python_version)]
    rows += [(name, version) for name, version in record.versions.items()]
    last = newest_provenance(report)
    if last is not None:
        rows += [("host", last.host), ("system", last.system), ("CPUs", str(last.cpus or "unknown"))]
        rows += [(f"seed {name}", value) for name, value in last.seeds.items()]
    gpus = ", ".join(last.gpus) if last is not None and last.gpus else record.gpu
    rows += [("GPUs", gpus or "none"), ("git commit", record.git_commit or "not in a git checkout")]
    return [*rows, *((f"option {name}", str(value)) for name, value in record.options.items())]


def newest_provenance(report: Report) -> Provenance | None:
    """What the newest attempt of which it was kept was started from."""
    return report.started[max(report.started)] if report.started else None


def changed_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Box, thing, before and after of what was not the same as in the box before."""
    numbers = sorted(report.started)
    return [
        (str(number), found.what, found.before or "-", found.after or "-")
        for earlier, number in pairwise(numbers)
        for found in between_attempts(report.started[earlier], report.started[number])
    ]


def _state(report: Report, path: str) -> str:
    if path in report.verified:
        return report.verified[path] or "verified"
    if is_remote(path):
        return "in an object store"
    return "there" if is_there(Path(path)) else "gone"
