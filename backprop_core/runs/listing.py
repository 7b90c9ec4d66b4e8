"""A table of all runs that stays fast with ten thousand of them.

Most rows come from experiments.json in one read. Its words are coarser than ours and can be older, so a row
that says running, stopped or failed is looked up in its record, and so is a run that the index does not know
yet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from backprop_core.errors import StoreError
from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import attempt_dir
from backprop_core.runs.experiments import Entry, foreign_record, read_index, seconds
from backprop_core.runs.identifiers import is_run_id
from backprop_core.runs.liveness import observed, with_live_news
from backprop_core.runs.pauses import pauses_of
from backprop_core.runs.rebuild import load_record
from backprop_core.runs.record import RunRecord
from backprop_core.runs.status import status_from_npm
from backprop_core.strict_json import as_number, as_text, as_whole

_SURE = frozenset({"completed", "timeboxed"})
_COARSE = frozenset({"stopped", "failed"})
_HEAD_BYTES = 4096
_LAST_MS = 2**52
_NPM_WORDS = {word: status_from_npm(word) for word in ("completed", "failed", "timeboxed", "stopped")}
# A bare line break cannot stand inside a JSON text, so this is the key itself and nothing that a user wrote.
_STATUS = re.compile(rb'\n "status": "([a-z]+)"')
_ENDED = {status.value.encode(): status for status in Outcome if status is not Outcome.RUNNING}


class RunRow(NamedTuple):
    """One line of `backprop list`; a named tuple, because ten thousand of them are made at once.

    Attributes:
        started_wall, ended_wall: seconds since 1970; `ended_wall` is None while it runs or where it is not
        known.
        checkpoints: how many are remembered.
        foreign: the npm tool's run.
        paused: it runs, and is held up.
    """

    id: str
    name: str | None
    status: Outcome
    script: str
    started_wall: float
    ended_wall: float | None
    last_step: int | None
    last_loss: float | None
    last_checkpoint: str | None
    checkpoints: int
    foreign: bool = False
    paused: bool = False


def list_rows(home: Path, warn: Callable[[str], None]) -> list[RunRow]:
    """All runs of `home`, newest first. What is damaged is told to `warn` in a sentence, never raised."""
    index = read_index(home)
    if index.damage is not None:
        warn(f"{home / 'experiments.json'} is damaged ({index.damage}); the next run rebuilds it.")
    own = set(_names(home))
    rows = [
        _own_row(home, key, entry, warn) if key in own else _entry_row(key, entry, foreign=True)
        for key, entry in index.entries.items()
    ]
    rows += [_own_row(home, name, {}, warn) for name in own if name not in index.entries and is_run_id(name)]
    known = [row for row in rows if row is not None]
    return sorted(known, key=lambda row: (row.started_wall, row.id), reverse=True)


def run_names(home: Path) -> Iterator[str]:
    """The names of the folders that may hold a run."""
    return filter(is_run_id, _names(home))


def _names(home: Path) -> list[str]:
    try:
        return os.listdir(home / "runs")  # noqa: PTH208 - thousands of names, no need of Path objects
    except OSError:
        return []


def _own_row(home: Path, key: str, entry: Entry, warn: Callable[[str], None]) -> RunRow | None:
    word = as_text(entry.get("status"))
    if word in _SURE:
        return _entry_row(key, entry)
    if word in _COARSE and (status := _peek(f"{home}/runs/{key}/run.json")) is not None:
        return _entry_row(key, entry, status)
    folder = home / "runs" / key
    try:
        record = load_record(folder, key, warn, lambda: foreign_record(key, entry) if entry else None)
        record = observed(record, folder)
    except FileNotFoundError:
        return None  # a run that is being made just now, or was cut off while it was
    except StoreError as error:
        warn(str(error))
        return _entry_row(key, entry) if entry else None
    return _record_row(with_live_news(record, folder), folder)


def _peek(path: str) -> Outcome | None:
    """The status in a `run.json`, without parsing it; None if it is not plain there, or says running."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = _STATUS.search(os.read(descriptor, _HEAD_BYTES))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None if found is None else _ENDED.get(found[1])


def _entry_row(key: str, entry: Entry, status: Outcome | None = None, *, foreign: bool = False) -> RunRow:
    """The row of an index entry. Whatever is of the wrong kind in it counts as not said."""
    get = entry.get
    last, known, loss = as_text(get("lastCheckpoint")), get("checkpoints"), get("lastLoss")
    return RunRow(
        key,
        as_text(get("name")),
        status or _status(get("status")),
        as_text(get("scriptPath")) or "",
        _seconds(get("startTime")) or 0.0,
        _seconds(get("endTime")),
        as_whole(get("lastStep")),
        None if loss is None else as_number(loss),
        last,
        (len(known) if type(known) is list else 0) or int(last is not None),
        foreign,
    )


def _seconds(milliseconds: object) -> float | None:
    if type(milliseconds) is int and 0 <= milliseconds < _LAST_MS:  # the usual case, ten thousand times
        return milliseconds / 1000
    return seconds(milliseconds)


def _status(word: object) -> Outcome:
    known = _NPM_WORDS.get(word) if type(word) is str else None
    return known or status_from_npm(word)


def _record_row(record: RunRecord, folder: Path) -> RunRow:
    attempt = record.last_attempt
    runs = record.status is Outcome.RUNNING and attempt is not None
    return RunRow(
        id=record.id,
        name=record.name,
        status=record.status,
        script=record.script_path,
        started_wall=record.created_wall,
        ended_wall=record.ended_wall,
        last_step=record.last_step,
        last_loss=record.last_loss,
        last_checkpoint=record.last_checkpoint,
        checkpoints=len(record.checkpoints),
        paused=runs and pauses_of(attempt_dir(folder, len(record.attempts))).since_wall is not None,
    )
