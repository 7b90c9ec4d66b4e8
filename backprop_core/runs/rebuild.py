"""A run whose `run.json` is damaged: what it was is put together again from all that was kept elsewhere.

The record as it was before its last change lies beside it (`run.json.before`); what came after that stands in the folders of
the attempts. Where that copy is gone, too, the fields that can still be read are taken, and what experiments.json says.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from backprop_core.clock import Clock, utc_text
from backprop_core.errors import StoreError
from backprop_core.outcome import Outcome
from backprop_core.runs.atomic import read_regular, write_error
from backprop_core.runs.attempt import EVENTS_FILE, GOVERNOR_FILE, attempt_dir
from backprop_core.runs.events import highlights, read_events
from backprop_core.runs.hold import held_since, holder_of
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.record import AttemptRecord, RunRecord, with_checkpoint
from backprop_core.runs.record_json import (
    LIMIT_BYTES,
    DamagedRecordError,
    argument,
    arguments,
    attempt_from_json,
    read_record,
)
from backprop_core.strict_json import (
    JSON,
    as_float,
    as_instant,
    as_list,
    as_object,
    as_place,
    as_text,
    as_whole,
    as_word,
)

RECORD_FILE = "run.json"
COPY_FILE = "run.json.before"
_FIELD = re.compile(r'^ "([a-z_]+)": ', re.MULTILINE)
_NOBODY = ProcessIdentity("", 1, -1.0)


def load_record(
    folder: Path,
    run_id: str,
    told: Callable[[str], None],
    indexed: Callable[[], RunRecord | None] = lambda: None,
) -> RunRecord:
    """The record of the run in `folder`, rebuilt where it is damaged or gone.

    Args:
        told: gets a sentence about a record that had to be rebuilt.
        indexed: gives the run as experiments.json knows it.

    Raises:
        FileNotFoundError: there is none, nor anything of a run.
        StoreError: it cannot be read, is another run's, or was written by a newer backprop.
    """
    path = folder / RECORD_FILE
    try:
        return read_record(path, run_id)
    except FileNotFoundError:
        if not is_run_folder(folder):
            raise
        damage = "it is missing"
    except DamagedRecordError as error:
        damage = error.damage
    try:
        record, source = read_record(folder / COPY_FILE, run_id), f"{COPY_FILE} and its attempts"
    except (FileNotFoundError, StoreError):
        record, source = _salvaged(path, run_id, indexed()), "what is left of it and its attempts"
    told(f"{path} is damaged ({damage}); the run is shown as rebuilt from {source}.")
    return _with_attempts(record, folder)


def is_run_folder(folder: Path) -> bool:
    """Whether a folder holds a run: one with a record, or with what is left where that is gone."""
    try:
        return any(os.path.lexists(folder / name) for name in (RECORD_FILE, COPY_FILE, "attempts"))
    except (OSError, ValueError):
        return False


def set_aside(folder: Path, clock: Clock) -> None:
    """Keep a damaged record under another name, out of the way of the one that is written anew.

    Raises:
        StoreError: it cannot be moved.
    """
    path = folder / RECORD_FILE
    stamp = utc_text(clock.wall()).replace(":", "").replace("-", "")
    try:
        if os.path.lexists(path):
            path.rename(folder / f"{RECORD_FILE}.corrupt.{stamp}-{os.urandom(2).hex()}")
    except OSError as error:
        raise write_error(path, error) from error


def _salvaged(path: Path, run_id: str, indexed: RunRecord | None) -> RunRecord:
    """Every field of a record that can still be read, over what the index says."""
    fields = _fields(path)
    base = indexed or RunRecord(run_id, None, Outcome.LOST, _made_wall(path.parent), (), "", "")
    created = as_instant(fields.get("created_wall"))
    command = arguments(fields.get("command"))
    attempts = []
    for number, item in enumerate(as_list(fields.get("attempts")), start=1):
        attempt = attempt_from_json(number, item)
        if attempt is None:
            break
        attempts.append(attempt)
    record = replace(
        base,
        id=run_id,
        foreign=False,
        status=as_word(Outcome, fields.get("status")) or base.status,
        name=as_text(fields.get("name")) or base.name,
        created_wall=base.created_wall if created is None else created,
        # Without its arguments a script would be another experiment: a command is known whole or not at all.
        command=command or (),
        cwd=argument(fields.get("cwd")) or base.cwd,
        interpreter=argument(fields.get("interpreter")) or "",
        options=as_object(fields.get("options")),
        checkpoint_dir=as_place(fields.get("checkpoint_dir")),
        git_commit=as_text(fields.get("git_commit")),
        script_digest=as_text(fields.get("script_digest")),
        gpu=as_text(fields.get("gpu")),
        attempts=tuple(attempts),
        last_step=base.last_step if (step := as_whole(fields.get("last_step"))) is None else step,
        last_loss=base.last_loss if (loss := as_float(fields.get("last_loss"))) is None else loss,
    )
    for place in filter(as_place, as_list(fields.get("checkpoints"))):
        record = with_checkpoint(record, place)
    return record


def _fields(path: Path) -> dict[str, JSON]:
    """The fields of a `run.json` that are whole, also where the file as such is not."""
    try:
        text = read_regular(path, LIMIT_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    found: dict[str, JSON] = {}
    decoder = json.JSONDecoder()
    for field in _FIELD.finditer(text):
        try:
            found[field[1]] = decoder.raw_decode(text, field.end())[0]
        except (ValueError, RecursionError):
            continue
    return found


def _made_wall(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _with_attempts(record: RunRecord, folder: Path) -> RunRecord:
    """`record` with the attempts that it does not know of, and the checkpoints that they made."""
    attempts = list(record.attempts)
    while attempt_dir(folder, len(attempts) + 1).is_dir():
        attempts.append(_attempt(folder, len(attempts) + 1))
    if attempts and (len(attempts) > len(record.attempts) or attempts[-1].outcome is Outcome.RUNNING):
        attempts[-1] = _as_it_is(attempts[-1], folder, len(attempts) == len(record.attempts))
        record = replace(record, attempts=tuple(attempts), status=attempts[-1].outcome)
    elif record.status is Outcome.RUNNING and not attempts and holder_of(folder) is None:
        record = replace(record, status=Outcome.LOST)
    for attempt in attempts:
        told = highlights(attempt_dir(folder, attempt.number) / EVENTS_FILE)
        for place in told.checkpoints:
            record = record if place in record.checkpoints else with_checkpoint(record, place)
        record = record if told.step is None else replace(record, last_step=told.step)
        record = record if told.loss is None else replace(record, last_loss=told.loss)
    return record


def _attempt(folder: Path, number: int) -> AttemptRecord:
    """An attempt that only its folder tells of."""
    directory = attempt_dir(folder, number)
    first = next(read_events(directory / EVENTS_FILE), {})
    started = as_instant(first.get("wall")) or _made_wall(directory)
    return _ended(AttemptRecord(number, started, _NOBODY), directory)


def _ended(attempt: AttemptRecord, directory: Path) -> AttemptRecord:
    """`attempt` with the end that its events tell."""
    told = highlights(directory / EVENTS_FILE)
    finished = as_object(told.finished)
    outcome = as_word(Outcome, finished.get("outcome"))
    return replace(
        attempt,
        ended_wall=max(attempt.started_wall, told.last_wall or attempt.started_wall),
        outcome=outcome if outcome not in (None, Outcome.RUNNING) else Outcome.LOST,
        reason=as_text(finished.get("reason")) or "The record of its end is damaged.",
        measured=as_object(finished.get("measured")) or attempt.measured,
        steps=as_whole(finished.get("steps")),
    )


def _as_it_is(attempt: AttemptRecord, folder: Path, known: bool) -> AttemptRecord:
    """The last attempt: whether it goes on, a record that knew it tells by its processes, else the hold that it began in."""
    directory = attempt_dir(folder, attempt.number)
    if known:
        processes = (attempt.process, attempt.governor)
        alive = any(process is not None and process.alive() for process in processes)
        # Nobody may hold it: its governor was killed and it still saves; or it has ended, and its process goes on.
        said_all = highlights(directory / EVENTS_FILE).finished is not None
        return attempt if alive and (holder_of(folder) or not said_all) else _ended(attempt, directory)
    holder, since_wall = holder_of(folder), held_since(folder)
    if holder is None or since_wall is None or not holder.alive() or attempt.started_wall < since_wall:
        return attempt
    governed = (directory / GOVERNOR_FILE).exists()
    return replace(
        attempt,
        ended_wall=None,
        outcome=Outcome.RUNNING,
        reason="",
        process=holder,
        governor=holder if governed else None,
        measured={},
        steps=None,
    )
