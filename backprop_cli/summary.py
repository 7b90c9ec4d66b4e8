"""What `--json` prints when a command is done: one object on one line, for programs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from backprop_core.errors import BackpropError
from backprop_core.governor.verdict import Verdict
from backprop_core.runs.attempt import OUTPUT_FILE
from backprop_core.runs.measured import read_measured
from backprop_core.runs.record import AttemptRecord, RunRecord
from backprop_core.runs.store import RunStore
from backprop_core.strict_json import encode


def show_object(**facts: Any) -> None:
    """Print one object on a line of its own."""
    click.echo(encode(facts))


def show_outcome(store: RunStore, record: RunRecord, boxes_before: int, verdict: Verdict) -> None:
    """How the boxes of this command ended; the last line of standard output, behind what the script has printed.

    Args:
        record: as it was before; what has come since is not known where the home cannot be read any more.
        boxes_before: attempts that the run had when the command began.
    """
    with suppress(BackpropError):  # the script's own end counts more than our records
        record = store.load(record.id)
    boxes = record.attempts[boxes_before:]
    if boxes and _ends_within_a_line(store.attempt_dir(record.id, boxes[-1].number) / OUTPUT_FILE):
        click.echo()
    show_object(
        run_id=record.id,
        outcome=verdict.outcome.value,
        why=verdict.reason,
        **_standing(record),
        seconds=sum(_seconds(box) for box in boxes),
        boxes=len(boxes),
        peak_memory_bytes=_peak(boxes, "peak_rss_bytes"),
        peak_gpu_memory_bytes=_peak(boxes, "peak_gpu_bytes"),
        exit_status=verdict.exit_status,
    )


def show_nothing_done(record: RunRecord, why: str, exit_status: int) -> None:
    """A run to which nothing was done, such as one that is completed already."""
    show_object(
        run_id=record.id,
        outcome=record.status.value,
        why=why,
        **_standing(record),
        seconds=0.0,
        boxes=0,
        peak_memory_bytes=None,
        peak_gpu_memory_bytes=None,
        exit_status=exit_status,
    )


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
