"""`run.json`: a record as JSON and back. Reading trusts nothing, so a damaged file is an error with a
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from backprop_core.errors import StoreError
from backprop_core.outcome import Outcome
from backprop_core.runs.atomic import read_regular
from backprop_core.runs.jsontext import JSON, decode, encode
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.record import AttemptRecord, RunRecord
from backprop_core.runs.status import RunStatus

FORMAT_VERSION = 1
LIMIT_BYTES = 64 * 1024 * 1024
_T = TypeVar("_T")


class _DamagedError(ValueError):
    """A field that is missing or of the wrong kind."""


def to_text(record: RunRecord) -> str:
    """The content of `run.json` for `record`."""
    return encode(
        {
            "format_version": FORMAT_VERSION,
            "id": record.id,
            "name": record.name,
            "status": record.status.value,
            "created_wall": record.created_wall,
            "command": list(record.command),
            "cwd": record.cwd,
            "interpreter": record.interpreter,
            "python_version": record.python_version,
            "versions": dict(record.versions),
            "git_commit": record.git_commit,
            "script_digest": record.script_digest,
            "options": dict(record.options),
            "checkpoint_dir": record.checkpoint_dir,
            "attempts": [_attempt_to_json(attempt) for attempt in record.attempts],
            "last_step": record.last_step,
            "last_loss": record.last_loss,
            "last_checkpoint": record.last_checkpoint,
            "checkpoints": list(record.checkpoints),
            "gpu": record.gpu,
        },
        indent=1,
    )


def read_record(path: Path, run_id: str) -> RunRecord:
    """The record in `path`, which must be the one of `run_id`.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it cannot be read, is damaged, is another run's, or was written by a newer backprop.
    """
    try:
        content = decode(read_regular(path, LIMIT_BYTES))
        record = _record(content)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(
            f"Cannot read {path}: {error.strerror or error}.", "Check its owner.", path=path
        ) from error
    except ValueError as error:
        raise StoreError(
            f"{path} is damaged: {error}.",
            "Its checkpoints are untouched: 'backprop run SCRIPT --resume-from PATH' starts from one.",
            path=path,
        ) from error
    if record.id != run_id:
        raise StoreError(
            f"{path} belongs to another run ({record.id[:80]!r}).",
            "Its folder was renamed: name it back.",
            path=path,
        )
    return record


def _attempt_to_json(attempt: AttemptRecord) -> JSON:
    return {
        "number": attempt.number,
        "started_wall": attempt.started_wall,
        "ended_wall": attempt.ended_wall,
        "outcome": attempt.outcome.value,
        "reason": attempt.reason,
        "process": attempt.process.to_json(),
        "governor": attempt.governor.to_json() if attempt.governor else None,
        "budget_s": attempt.budget_s,
        "budget_source": attempt.budget_source,
        "measured": dict(attempt.measured),
        "resumed_from": attempt.resumed_from,
        "exit_status": attempt.exit_status,
        "steps": attempt.steps,
    }


def _record(content: object) -> RunRecord:
    if not isinstance(content, dict):
        raise _DamagedError("it is not a JSON object")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise _DamagedError(f"it has format {version!r}, and this backprop reads {FORMAT_VERSION}")
    return RunRecord(
        id=_need(content, "id", str),
        name=_maybe(content, "name", str),
        status=_word(RunStatus, content.get("status")),
        created_wall=float(_need(content, "created_wall", (int, float))),
        command=_texts(content, "command"),
        cwd=_need(content, "cwd", str),
        interpreter=_need(content, "interpreter", str),
        python_version=_maybe(content, "python_version", str) or "",
        versions={str(k): str(v) for k, v in (_maybe(content, "versions", dict) or {}).items()},
        git_commit=_maybe(content, "git_commit", str),
        script_digest=_maybe(content, "script_digest", str),
        options=_maybe(content, "options", dict) or {},
        checkpoint_dir=_maybe(content, "checkpoint_dir", str),
        attempts=tuple(_attempt(i, item) for i, item in enumerate(_need(content, "attempts", list), start=1)),
        last_step=_maybe(content, "last_step", int),
        last_loss=_number(content, "last_loss"),
        last_checkpoint=_maybe(content, "last_checkpoint", str),
        checkpoints=_texts(content, "checkpoints"),
        gpu=_maybe(content, "gpu", str),
    )


def _attempt(number: int, item: object) -> AttemptRecord:
    if not isinstance(item, dict):
        raise _DamagedError("an attempt is not a JSON object")
    process = ProcessIdentity.from_json(item.get("process"))
    if process is None or item.get("number") != number:
        raise _DamagedError(f"attempt {number} has no number or process")
    return AttemptRecord(
        number=number,
        started_wall=float(_need(item, "started_wall", (int, float))),
        ended_wall=_number(item, "ended_wall"),
        outcome=_word(Outcome, item.get("outcome")),
        reason=_maybe(item, "reason", str) or "",
        process=process,
        governor=ProcessIdentity.from_json(item.get("governor")),
        budget_s=_number(item, "budget_s"),
        budget_source=_maybe(item, "budget_source", str) or "",
        measured=_maybe(item, "measured", dict) or {},
        resumed_from=_maybe(item, "resumed_from", str),
        exit_status=_maybe(item, "exit_status", int),
        steps=_maybe(item, "steps", int),
    )


def _need(content: Mapping[str, Any], key: str, kind: type[_T] | tuple[type[_T], ...]) -> _T:
    value = content.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _DamagedError(f"{key!r} is missing or of the wrong kind")
    return value


def _maybe(content: Mapping[str, Any], key: str, kind: type[_T]) -> _T | None:
    return None if content.get(key) is None else _need(content, key, kind)


def _number(content: Mapping[str, Any], key: str) -> float | None:
    return None if content.get(key) is None else float(_need(content, key, (int, float)))


def _texts(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    items = _need(content, key, list)
    if not all(isinstance(item, str) for item in items):
        raise _DamagedError(f"{key!r} holds something that is not text")
    return tuple(items)


def _word(kind: type[_T], value: object) -> _T:
    try:
        return kind(value)  # type: ignore[call-arg]
    except ValueError:
        raise _DamagedError(f"{str(value)[:40]!r} is not one of its words") from None
