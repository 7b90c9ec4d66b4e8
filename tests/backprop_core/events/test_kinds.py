"""The typed events: what is written is read, of every version, and all of it is documented."""

from __future__ import annotations

import ast
import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from backprop_core.events.kinds import (
    GOVERNOR_EVENTS,
    KINDS,
    SESSION_EVENTS,
    Continued,
    Ended,
    Event,
    Message,
    Paused,
    Progress,
    SessionStarted,
    read,
    read_as,
)
from backprop_core.runs.events import EventLog, read_events
from backprop_core.testing.clock import FakeClock
from tests.backprop_core.events import reference

ROOT = Path(__file__).parents[3]
_SAMPLES: dict[Any, Any] = {"str": "a", "int": 7, "float": 0.5, "bool": True}


def sample(kind: type[Event]) -> Event:
    """One event of a kind, with something in every field."""
    values = {}
    for one in fields(kind):  # type: ignore[arg-type]
        first = str(one.type).partition(" | ")[0]
        values[one.name] = ({"a": 1},) if first.startswith("tuple") else _SAMPLES.get(first, {"a": 1})
    return kind(**values)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_kind_comes_back_from_its_line(kind: type[Event], tmp_path: Path) -> None:
    """What the log writes of an event is read as the same event, with the times beside it."""
    event, log = sample(kind), EventLog(tmp_path / "events.jsonl", FakeClock())
    log.write(event)
    (line,) = read_events(log.path)
    assert read(line) == event
    assert list(line) == ["kind", "wall", "monotonic", *(one.name for one in fields(kind))]  # type: ignore[arg-type]


def test_lines_of_older_versions_are_read() -> None:
    """A line that lacks what was added later, as those of the first version do, is an event all the same."""
    old = {
        "kind": "session_finished",
        "outcome": "timeboxed",
        "reason": "",
        "steps": 3,
        "step": 3,
        "loss": None,
        "measured": {},
    }
    ended = read_as(Ended, old)
    assert ended is not None
    assert (ended.outcome, ended.steps, ended.used_s, ended.checkpoint_step) == ("timeboxed", 3, None, None)
    started = read_as(SessionStarted, {"kind": "session_started", "pid": 7})
    assert started is not None
    assert started.events_version == 1


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"kind": 3},
        {"kind": []},
        {"kind": "unknown"},
        {"kind": "message"},
        {"kind": "message", "text": 1, "level": "info"},
    ],
)
def test_what_is_no_event_is_none(line: dict[str, Any]) -> None:
    """Foreign lines, and those that lack what they must have, are passed over."""
    assert read(line) is None


def test_ill_typed_fields_are_none() -> None:
    """A field of another type, such as a script may bring about, is not handed on as if it were right."""
    line = {"kind": "progress", "step": "7", "loss": True, "values": [1], "rate": 10**400}
    event = read(line)
    assert isinstance(event, Progress)
    assert (event.step, event.loss, dict(event.values)) == (None, None, {})


def test_events_cannot_be_changed() -> None:
    """Events are facts: nobody who receives one can change it for the others."""
    event = Message("a", "info")
    with pytest.raises(FrozenInstanceError):
        event.text = "b"  # type: ignore[misc]
    assert event != Message("b", "info")
    assert "text='a'" in repr(event)


def test_what_there_is_not_to_say_is_left_out() -> None:
    """A session's pause has no cause and a governor's no length: neither writes the other's field."""
    assert Paused().facts() == {}
    assert Continued(paused_s=2.0).facts() == {"paused_s": 2.0}
    assert (
        json.loads(json.dumps(Progress(1, None, None, None, {}, None, None, None).facts()))["epoch"] is None
    )


def test_no_event_is_written_by_a_bare_word() -> None:
    """No code of ours appends a line without a class, so that every kind is in the table and in the document."""
    for path in sorted(ROOT.glob("backprop*/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            logs = (
                node.func.attr in ("append", "event") and node.args and isinstance(node.args[0], ast.Constant)
            )
            assert not (logs and node.args[0].value in KINDS), f"{path}:{node.lineno}"


def test_the_reference_is_that_of_the_classes() -> None:
    """docs/events.md is as `python -m tests.backprop_core.events.reference` makes it: every kind, every field."""
    document = reference.DOCUMENT.read_text(encoding="utf-8")
    assert reference.written_anew(document) == document


def test_no_kind_is_in_two_classes() -> None:
    """A word names one class."""
    assert len({*SESSION_EVENTS, *GOVERNOR_EVENTS}) == len(KINDS)
    assert all(set(get_type_hints(kind)) >= {one.name for one in fields(kind)} for kind in KINDS.values())  # type: ignore[arg-type]
