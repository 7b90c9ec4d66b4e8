"""Whether a run that says it is running is: computed when it is looked at, written when it is next held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import EVENTS_FILE, GOVERNOR_FILE, OUTPUT_FILE, attempt_dir
from backprop_core.runs.events import Line, highlights
from backprop_core.runs.hold import LOCK_FILE
from backprop_core.runs.locks import is_locked
from backprop_core.runs.process import Life
from backprop_core.runs.record import RunRecord, with_checkpoint, with_last_attempt
from backprop_core.strict_json import as_object, as_whole

_LIVE_BYTES = 16 * 1024


def is_live(record: RunRecord, run_dir: Path) -> bool:
    """Whether something still works on a run whose status is RUNNING.

    The training process decides; a governor that is tidying up behind it counts too. Where they cannot be
    seen (another machine or container on the same home), or before the first attempt, the run's lock decides.
    """
    attempt = record.last_attempt
    if attempt is None or attempt.outcome is not Outcome.RUNNING:
        return is_locked(run_dir / LOCK_FILE)
    lives = {attempt.process.life()} | ({attempt.governor.life()} if attempt.governor else set())
    if Life.ALIVE in lives:
        return True
    return Life.ELSEWHERE in lives and is_locked(run_dir / LOCK_FILE)


def observed(record: RunRecord, run_dir: Path) -> RunRecord:
    """`record` as it really is: LOST if it says RUNNING and nothing lives."""
    if record.status is not Outcome.RUNNING or is_live(record, run_dir):
        return record
    return as_lost(record, run_dir)


def with_live_news(record: RunRecord, folder: Path) -> RunRecord:
    """A running run's step and loss as its events tell them: the record learns them at the end only."""
    attempt = record.last_attempt
    if record.status is not Outcome.RUNNING or attempt is None:
        return record
    told = highlights(attempt_dir(folder, attempt.number) / EVENTS_FILE, last_bytes=_LIVE_BYTES)
    return replace(
        record,
        last_step=record.last_step if told.step is None else told.step,
        last_loss=record.last_loss if told.loss is None else told.loss,
    )


def as_lost(record: RunRecord, run_dir: Path) -> RunRecord:
    """`record`, lost, with what its last attempt still managed to say."""
    attempt = record.last_attempt
    if attempt is None or attempt.outcome is not Outcome.RUNNING:
        return replace(record, status=Outcome.LOST)
    folder = attempt_dir(run_dir, attempt.number)
    told = highlights(folder / EVENTS_FILE)
    ended = max(_last_sign_wall(folder) or attempt.started_wall, attempt.started_wall)
    finished = told.finished or {}
    lost = replace(
        attempt,
        outcome=Outcome.LOST,
        ended_wall=ended,
        reason=_reason(attempt.process.pid, finished),
        steps=attempt.steps if (steps := as_whole(finished.get("steps"))) is None else steps,
        measured=as_object(finished.get("measured")) or attempt.measured,
    )
    for path in told.checkpoints:
        record = with_checkpoint(record, path)
    return replace(
        with_last_attempt(record, lost),
        status=Outcome.LOST,
        last_step=record.last_step if told.step is None else told.step,
        last_loss=record.last_loss if told.loss is None else told.loss,
    )


def _reason(pid: int, finished: Line) -> str:
    """Why a lost attempt ended, as far as it could still say so itself."""
    if not finished:
        return f"Its process ({pid}) ended without recording why: it was killed, or the machine went down."
    said = f"{str(finished.get('outcome'))[:40]}: {str(finished.get('reason'))[:200]}".rstrip(".: ")
    return f"Nothing recorded its end (was the governor killed?); its last record is {said}."


def _last_sign_wall(folder: Path) -> float | None:
    """When the attempt in `folder` last wrote anything, seconds since 1970."""
    signs = []
    for name in (EVENTS_FILE, GOVERNOR_FILE, OUTPUT_FILE):
        try:
            signs.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(signs, default=None)
