"""`run.json`: a record as JSON and back. Reading trusts nothing, so a damaged file is an error with a
name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from backprop_core.errors import StoreError
from backprop_core.outcome import Outcome
from backprop_core.runs.atomic import NotRegularError, read_regular
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.record import AttemptRecord, RunRecord
from backprop_core.strict_json import (
    JSON,
    as_float,
    as_instant,
    as_object,
    as_place,
    as_text,
    as_texts,
    as_whole,
    as_word,
    can_be_encoded,
    decode,
    encode,
)

FORMAT_VERSION = 1
LIMIT_BYTES = 64 * 1024 * 1024
_T = TypeVar("_T")


class DamagedRecordError(StoreError):
    """A record that says less than it should: see `backprop_core.runs.rebuild`. `damage` says what is wrong with it."""

    def __init__(self, path: Path, damage: str) -> None:
        super().__init__(f"{path} is damaged: {damage}.", path=path)
        self.damage = damage


class _DamagedError(ValueError):
    """A field that is missing or of the wrong kind."""


class _NewerFormatError(ValueError):
    """A record that a later backprop has written: it is left alone."""


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
        DamagedRecordError: it is not what was written.
        StoreError: it cannot be read, is another run's, or was written by a newer backprop.
    """
    try:
        content = decode(read_regular(path, LIMIT_BYTES))
        record = _record(content)
    except FileNotFoundError:
        raise
    except NotRegularError as error:
        raise DamagedRecordError(path, str(error)) from error
    except OSError as error:
        raise StoreError(
            f"Cannot read {path}: {error.strerror or error}.", "Check its owner.", path=path
        ) from error
    except _NewerFormatError as error:
        raise StoreError(f"{path} cannot be read: {error}.", "Update backprop-timebox.", path=path) from error
    except ValueError as error:
        raise DamagedRecordError(path, str(error)) from error
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
        newer = as_whole(version, least=FORMAT_VERSION + 1) is not None
        kind = _NewerFormatError if newer else _DamagedError
        raise kind(f"it has format {str(version)[:40]}, and this backprop reads {FORMAT_VERSION}")
    return RunRecord(
        id=_need(content, "id", as_text),
        name=_maybe(content, "name", as_text),
        status=_need(content, "status", lambda value: as_word(Outcome, value)),
        created_wall=_need(content, "created_wall", as_instant),
        command=_need(content, "command", arguments),
        cwd=_need(content, "cwd", argument),
        interpreter=_need(content, "interpreter", argument),
        python_version=_maybe(content, "python_version", as_text) or "",
        versions={key: str(value) for key, value in as_object(content.get("versions")).items()},
        git_commit=_maybe(content, "git_commit", as_text),
        script_digest=_maybe(content, "script_digest", as_text),
        options=as_object(content.get("options")),
        checkpoint_dir=_maybe(content, "checkpoint_dir", as_place),
        attempts=_attempts(content.get("attempts")),
        last_step=_maybe(content, "last_step", as_whole),
        last_loss=_maybe(content, "last_loss", as_float),
        last_checkpoint=_maybe(content, "last_checkpoint", as_place),
        checkpoints=_need(content, "checkpoints", _places),
        gpu=_maybe(content, "gpu", as_text),
    )


def _attempts(items: object) -> tuple[AttemptRecord, ...]:
    if not isinstance(items, list):
        raise _DamagedError("'attempts' is missing or of the wrong kind")
    found = []
    for number, item in enumerate(items, start=1):
        attempt = attempt_from_json(number, item)
        if attempt is None:
            raise _DamagedError(f"attempt {number} is not what was written")
        found.append(attempt)
    return tuple(found)


def attempt_from_json(number: int, item: object) -> AttemptRecord | None:
    """Attempt `number` out of a record; None if the entry is not one, or another's."""
    content = as_object(item)
    process = ProcessIdentity.from_json(content.get("process"))
    if process is None or content.get("number") != number:
        return None
    try:
        return AttemptRecord(
            number=number,
            started_wall=_need(content, "started_wall", as_instant),
            ended_wall=_maybe(content, "ended_wall", as_instant),
            outcome=_need(content, "outcome", lambda value: as_word(Outcome, value)),
            reason=_maybe(content, "reason", as_text) or "",
            process=process,
            governor=ProcessIdentity.from_json(content.get("governor")),
            budget_s=_maybe(content, "budget_s", as_float),
            budget_source=_maybe(content, "budget_source", as_text) or "",
            measured=as_object(content.get("measured")),
            resumed_from=_maybe(content, "resumed_from", as_place),
            exit_status=_maybe(content, "exit_status", as_whole),
            steps=_maybe(content, "steps", as_whole),
        )
    except _DamagedError:
        return None


def argument(value: object) -> str | None:
    """A text that the system takes as an argument or a folder; it may be empty."""
    return value if value == "" or as_place(value) is not None else None  # type: ignore[return-value]


def arguments(value: object) -> tuple[str, ...] | None:
    """A command: a list of nothing but arguments, of any length."""
    texts = as_texts(value)
    if texts is None or any("\0" in text for text in texts):
        return None
    return texts if all(map(can_be_encoded, texts)) else None


def _places(value: object) -> tuple[str, ...] | None:
    """The places in a list; what cannot be one is left out."""
    return tuple(filter(as_place, value)) if isinstance(value, list) else None


def _need(content: Mapping[str, JSON], key: str, read: Callable[[object], _T | None]) -> _T:
    value = read(content.get(key))
    if value is None:
        raise _DamagedError(f"{key!r} is missing or of the wrong kind")
    return value


def _maybe(content: Mapping[str, JSON], key: str, read: Callable[[object], _T | None]) -> _T | None:
    return None if content.get(key) is None else _need(content, key, read)
