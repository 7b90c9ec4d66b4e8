"""What `--json` prints when a command is done: one object on one line, for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from backprop_cli.opening import tell
from backprop_cli.paths import open_pipe
from backprop_core.errors import BackpropError
from backprop_core.governor.verdict import Verdict
from backprop_core.history.attempt_history import attempt_history
from backprop_core.history.run_history import time_spent
from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import EVENTS_FILE, OUTPUT_FILE
from backprop_core.runs.events import highlights
from backprop_core.runs.measured import read_measured
from backprop_core.runs.record import AttemptRecord, RunRecord
from backprop_core.runs.store import RunStore
from backprop_core.strict_json import encode

RESULT_VERSION = 1
"""Of the object of `run --json` and `resume --json`, whose schema is `result.schema.json` beside this file."""
KINDS_OF_TIME = ("waiting", "starting", "training", "saving", "paused", "leaving")


def show_object(**facts: Any) -> None:
    """Print one object on a line of its own."""
    click.echo(encode(facts))


def show_outcome(
    store: RunStore, record: RunRecord, boxes_before: int, verdict: Verdict, to: str | None = None
) -> None:
    """How the boxes of this command ended: the last line of standard output, behind what the script has printed.

    Args:
        record: as it was before; what has come since is not known where the home cannot be read any more.
        boxes_before: attempts that the run had when the command began.
        to: a file that gets it instead.
    """
    with suppress(BackpropError):  # the script's own end counts more than our records
        record = store.load(record.id)
    boxes = record.attempts[boxes_before:]
    if (
        boxes
        and to is None
        and _ends_within_a_line(store.attempt_dir(record.id, boxes[-1].number) / OUTPUT_FILE)
    ):
        click.echo()
    over = verdict.outcome is Outcome.COMPLETED
    result = {
        "format_version": RESULT_VERSION,
        "run_id": record.id,
        "name": record.name,
        "outcome": verdict.outcome.value,
        "why": verdict.reason,
        **_standing(record),
        "values": _last_values(store, record),
        "seconds": sum(_seconds(box) for box in boxes),
        "seconds_by_kind": _seconds_by_kind(store, record, boxes),
        "boxes": len(boxes),
        "peak_memory_bytes": _peak(boxes, "peak_rss_bytes"),
        "peak_gpu_memory_bytes": _peak(boxes, "peak_gpu_bytes"),
        "next": None if over else f"backprop resume {record.id}",
        "exit_status": verdict.exit_status,
    }
    _hand_over(result, to)


def show_nothing_done(record: RunRecord, why: str, exit_status: int, to: str | None = None) -> None:
    """A run to which nothing was done, such as one that is completed already."""
    result = {
        "format_version": RESULT_VERSION,
        "run_id": record.id,
        "name": record.name,
        "outcome": record.status.value,
        "why": why,
        **_standing(record),
        "values": {},
        "seconds": 0.0,
        "seconds_by_kind": dict.fromkeys(KINDS_OF_TIME, 0.0),
        "boxes": 0,
        "peak_memory_bytes": None,
        "peak_gpu_memory_bytes": None,
        "next": None,
        "exit_status": exit_status,
    }
    _hand_over(result, to)


def _hand_over(result: Mapping[str, Any], to: str | None) -> None:
    if to is None:
        show_object(**result)
        return
    try:
        path = Path(to)  # it may be /dev/fd/3
        with open_pipe(path) if path.is_fifo() else path.open("wb") as file:
            file.write(f"{encode(result)}\n".encode("ascii"))
    except OSError as error:  # what the run has come to is said on standard error all the same
        tell(f"--json-to {to} could not be written: {error.strerror or error}.")


def _last_values(store: RunStore, record: RunRecord) -> dict[str, float]:
    """The newest value of everything that the script logged, as far back as the newest attempt that logged anything."""
    for attempt in reversed(record.attempts):
        found = highlights(store.attempt_dir(record.id, attempt.number) / EVENTS_FILE)
        if found.values:
            return found.values
    return {}


def _seconds_by_kind(store: RunStore, record: RunRecord, boxes: Sequence[AttemptRecord]) -> dict[str, float]:
    """Where the time went, over all boxes of the command."""
    sums = dict.fromkeys(KINDS_OF_TIME, 0.0)
    for box in boxes:
        folder = store.attempt_dir(record.id, box.number)
        spent = time_spent(attempt_history(folder, box, 0.0, _seconds(box)))
        for kind in KINDS_OF_TIME:
            sums[kind] += getattr(spent, f"{kind}_s") or 0.0
    return sums


def show_request(record: RunRecord, asked: str) -> None:
    """What was asked of a run that goes on, and how the run stood then."""
    show_object(run_id=record.id, asked=asked, status=record.status.value, **_standing(record))


def _standing(record: RunRecord) -> dict[str, Any]:
    return {"step": record.last_step, "loss": record.last_loss, "checkpoint": record.last_checkpoint}


def _seconds(box: AttemptRecord) -> float:
    governor = read_measured(box.measured).governor
    if governor is not None and governor.used_s is not None:
        return governor.used_s
    return max(0.0, box.ended_wall - box.started_wall) if box.ended_wall is not None else 0.0


def _peak(boxes: tuple[AttemptRecord, ...], name: str) -> int | None:
    peaks = [getattr(read_measured(box.measured).governor, name, None) for box in boxes]
    return max(filter(None, peaks), default=None)


def _ends_within_a_line(output: Path) -> bool:
    try:
        with output.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 1))
            return file.read() not in (b"", b"\n")
    except OSError:
        return False
