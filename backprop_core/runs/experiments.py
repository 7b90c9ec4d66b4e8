"""`experiments.json`: every run in the npm tool's own format, for that tool and for a fast list.

An index, derived from the records: it may always be rebuilt. What the npm tool wrote into it is kept, also
what is not understood. Times are ms since 1970. Optional values are left out, as that tool does, and so are
numbers that JSON has no word for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from backprop_core.clock import SYSTEM, Clock, utc_text
from backprop_core.errors import StoreError
from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.atomic import read_regular, replace_file, sweep_temporaries
from backprop_core.runs.identifiers import is_run_id
from backprop_core.runs.locks import FileLock
from backprop_core.runs.rebuild import load_record
from backprop_core.runs.record import KEPT_CHECKPOINTS, RunRecord
from backprop_core.runs.status import npm_status, status_from_npm
from backprop_core.strict_json import as_instant, as_list, as_number, as_place, as_text, as_whole, decode

INDEX_FILE = "experiments.json"
_LOCK_FILE = "experiments.lock"
_LOCK_TIMEOUT_S = 10.0
_LIMIT_BYTES = 512 * 1024 * 1024
INDEXED_CHECKPOINTS = 20
"""The newest ones of a run: all of them, of ten thousand runs, would be read by every list."""

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Index:
    """What experiments.json says. `damage` is why it could not be read, or None."""

    entries: Mapping[str, Entry]
    damage: str | None = None


def read_index(home: Path) -> Index:
    """The entries that have the shape of a run, without changing anything. A missing file is an empty
    index.
    """
    entries, damage = _read(home / INDEX_FILE)
    return Index({key: value for key, value in entries.items() if isinstance(value, dict)}, damage)


def update(home: Path, record: RunRecord, clock: Clock = SYSTEM) -> str | None:
    """Bring the entry of `record` up to date; returns a sentence if a damaged file had to be set aside.

    Raises:
        StoreError: it cannot be written, or stays locked.
    """

    def change(entries: dict[str, Any]) -> None:
        before = entries.get(record.id)
        merged = {**(before if isinstance(before, dict) else {}), **entry_of(record)}
        if record.status is Outcome.RUNNING:
            merged.pop("endTime", None)
        entries[record.id] = merged

    return _change(home, change, clock)


def remove(home: Path, run_id: str, clock: Clock = SYSTEM) -> str | None:
    """Take the entry of `run_id` out. Raises StoreError as `update` does."""
    return _change(home, lambda entries: entries.pop(run_id, None), clock)


def entry_of(record: RunRecord) -> Entry:
    """`record` in the npm tool's words."""
    running = record.status is Outcome.RUNNING
    loss = as_number(record.last_loss)
    optional: Entry = {
        "name": record.name,
        "lastCheckpoint": record.last_checkpoint,
        "lastStep": record.last_step,
        "lastLoss": loss,
        "endTime": None if running or record.ended_wall is None else round(record.ended_wall * 1000),
    }
    return {
        "id": record.id,
        "scriptPath": record.script_path,
        "status": npm_status(record.status),
        "checkpoints": list(record.checkpoints[-INDEXED_CHECKPOINTS:]),
        "startTime": round(record.created_wall * 1000),
        **{key: value for key, value in optional.items() if value is not None},
    }


def indexed_record(home: Path, run_id: str) -> RunRecord | None:
    """A run as the index alone knows it."""
    entry = read_index(home).entries.get(run_id)
    return None if entry is None else foreign_record(run_id, entry)


def foreign_record(key: str, entry: Entry) -> RunRecord:
    """A run that only experiments.json knows. Whatever is of the wrong kind in it counts as not said."""
    script = as_place(entry.get("scriptPath"))
    checkpoints = [item for item in as_list(entry.get("checkpoints")) if as_place(item) is not None]
    last = as_place(entry.get("lastCheckpoint")) or (checkpoints[-1] if checkpoints else None)
    if last and last not in checkpoints:
        checkpoints.append(last)
    start = seconds(entry.get("startTime")) or seconds(entry.get("endTime")) or 0.0
    return RunRecord(
        id=key,
        name=as_text(entry.get("name")) or None,
        status=status_from_npm(entry.get("status")),
        created_wall=start,
        command=(script,) if script else (),
        cwd=os.path.dirname(script) if script and os.path.isabs(script) else "",  # noqa: PTH117, PTH120
        interpreter="",
        last_step=as_whole(entry.get("lastStep")),
        last_loss=as_number(entry.get("lastLoss")),
        last_checkpoint=last,
        checkpoints=tuple(checkpoints[-KEPT_CHECKPOINTS:]),
        foreign=True,
    )


def seconds(milliseconds: object) -> float | None:
    """An instant of the index in seconds since 1970."""
    number = as_number(milliseconds)
    return None if number is None else as_instant(number / 1000)


def _change(home: Path, change: Callable[[dict[str, Any]], object], clock: Clock) -> str | None:
    path, warning = home / INDEX_FILE, None
    with FileLock(home / _LOCK_FILE) as lock:
        lock.wait(clock, _LOCK_TIMEOUT_S)
        sweep_temporaries(home)
        entries, damage = _read(path)
        if damage is not None:
            warning = _set_aside(path, damage, clock)
        # The npm tool writes back what it had read at its start, and so drops our newer runs: put them back.
        for run_id in _missing(home, entries):
            try:
                entries[run_id] = entry_of(load_record(home / "runs" / run_id, run_id, lambda damage: None))
            except (StoreError, FileNotFoundError):
                continue
        change(entries)
        replace_file(path, _to_bytes(entries), lasting=False)
    return warning


def _missing(home: Path, entries: Mapping[str, Any]) -> Iterable[str]:
    try:
        names = os.listdir(home / "runs")  # noqa: PTH208 - thousands of names, no need of Path objects
    except OSError:
        return []
    return sorted(name for name in names if name not in entries and is_run_id(name))


def _read(path: Path) -> tuple[dict[str, Any], str | None]:
    """The entries, and what is wrong with the file if they could not be read."""
    try:
        content = decode(read_regular(path, _LIMIT_BYTES))
    except FileNotFoundError:
        return {}, None
    except OSError as error:
        return {}, error.strerror or str(error)
    except ValueError:
        return {}, "it is not JSON"
    if not isinstance(content, dict):
        return {}, "it is not a JSON object"
    return content, None


def _set_aside(path: Path, damage: str, clock: Clock) -> str:
    stamp = utc_text(clock.wall()).replace(":", "").replace("-", "")
    aside = path.with_name(f"{path.name}.corrupt.{stamp}")
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.corrupt.{stamp}-{number}")
    try:
        path.rename(aside)
    except OSError as error:
        raise StoreError(
            f"{path} is damaged ({damage}) and cannot be moved aside: {error.strerror or error}.",
            "Move it away by hand; backprop rebuilds it from the runs.",
            path=path,
        ) from error
    return f"{path} was damaged ({damage}): it is kept as {aside.name} and was rebuilt from the runs."


def _to_bytes(entries: Mapping[str, Any]) -> bytes:
    """One run a line: C-speed to write, and still readable and diffable."""
    lines = []
    for key, value in entries.items():
        try:
            text = json.dumps(value, allow_nan=False)
        except (
            ValueError,
            RecursionError,
        ):  # some other writer's: the npm tool could not read the file with it
            text = _as_far_as_possible(value)
        lines.append(f"  {json.dumps(key)}: {text}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def _as_far_as_possible(value: object) -> str:
    try:
        return json.dumps(_without_nan(value), allow_nan=False)
    except (ValueError, RecursionError):
        return "null"


def _without_nan(value: object) -> object:
    if isinstance(value, float):
        return as_number(value)
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return value
