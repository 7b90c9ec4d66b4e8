"""A table of all runs that stays fast with ten thousand of them.

Most rows come from experiments.json in one read. Its words are coarser than ours and can be older, so a row
that says running, stopped or failed is looked up in its record, and so is a run that the index does not know
yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from backprop_core.errors import StoreError
from backprop_core.runs.attempt import EVENTS_FILE, attempt_dir
from backprop_core.runs.events import highlights
from backprop_core.runs.experiments import Entry, end_wall_of, foreign_record, read_index
from backprop_core.runs.identifiers import is_run_id
from backprop_core.runs.liveness import observed
from backprop_core.runs.record import RunRecord
from backprop_core.runs.record_json import read_record
from backprop_core.runs.status import RunStatus

_LIVE_BYTES = 16 * 1024
_SURE = frozenset({"completed", "timeboxed"})


@dataclass(frozen=True, slots=True)
class RunRow:
    """One line of `backprop list`.

    Attributes:
        started_wall, ended_wall: seconds since 1970; `ended_wall` is None while it runs or where it is not
        known.
        checkpoints: how many are remembered.
        foreign: the npm tool's run.
    """

    id: str
    name: str | None
    status: RunStatus
    script: str
    started_wall: float
    ended_wall: float | None
    last_step: int | None
    last_loss: float | None
    last_checkpoint: str | None
    checkpoints: int
    foreign: bool = False


def list_rows(home: Path, warn: Callable[[str], None]) -> list[RunRow]:
    """All runs of `home`, newest first. What is damaged is told to `warn` in a sentence, never raised."""
    index = read_index(home)
    if index.damage is not None:
        warn(f"{home / 'experiments.json'} is damaged ({index.damage}); the next run rebuilds it.")
    own = set(run_names(home))
    rows = [_row(home, key, entry, key in own, warn) for key, entry in index.entries.items()]
    rows += [_row(home, name, {}, True, warn) for name in own if name not in index.entries]
    return sorted(
        (row for row in rows if row is not None), key=lambda row: (row.started_wall, row.id), reverse=True
    )


def run_names(home: Path) -> Iterator[str]:
    """The names of the folders that may hold a run."""
    try:
        names = os.listdir(home / "runs")  # noqa: PTH208 - thousands of names, no need of Path objects
    except OSError:
        return
    yield from filter(is_run_id, names)


def _row(home: Path, key: str, entry: Entry, own: bool, warn: Callable[[str], None]) -> RunRow | None:
    if own and entry.get("status") in _SURE:
        return _row_of(foreign_record(key, entry), end_wall_of(entry), foreign=False)
    if not own:
        return _row_of(foreign_record(key, entry), end_wall_of(entry), foreign=True)
    folder = home / "runs" / key
    try:
        record = observed(read_record(folder / "run.json", key), folder)
    except FileNotFoundError:
        return None  # a run that is being made just now, or was cut off while it was
    except StoreError as error:
        warn(str(error))
        return _row_of(foreign_record(key, entry), end_wall_of(entry), foreign=False) if entry else None
    return _row_of(_with_live_news(record, folder), record.ended_wall, foreign=False)


def _with_live_news(record: RunRecord, folder: Path) -> RunRecord:
    """A running run's step and loss as its events tell them: the record learns them at the end only."""
    attempt = record.last_attempt
    if record.status is not RunStatus.RUNNING or attempt is None:
        return record
    told = highlights(attempt_dir(folder, attempt.number) / EVENTS_FILE, last_bytes=_LIVE_BYTES)
    return replace(
        record,
        last_step=record.last_step if told.step is None else told.step,
        last_loss=record.last_loss if told.loss is None else told.loss,
    )


def _row_of(record: RunRecord, ended_wall: float | None, *, foreign: bool) -> RunRow:
    return RunRow(
        id=record.id,
        name=record.name,
        status=record.status,
        script="".join(record.command[:1]),
        started_wall=record.created_wall,
        ended_wall=ended_wall,
        last_step=record.last_step,
        last_loss=record.last_loss,
        last_checkpoint=record.last_checkpoint,
        checkpoints=len(record.checkpoints),
        foreign=foreign,
    )
