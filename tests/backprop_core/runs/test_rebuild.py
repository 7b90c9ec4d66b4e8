"""A damaged run.json: the run goes on from what was kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backprop_core.errors import StoreError
from backprop_core.outcome import Outcome
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore

Make = Callable[..., RunRecord]
BEGIN: dict[str, Any] = {"budget_s": 600.0, "budget_source": "-m 10", "resumed_from": None}
DAMAGE = [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"\0" * 900, b'{"float": []}']


def _trained(store: RunStore, make: Make) -> RunRecord:
    """A run with one ended attempt and two checkpoints, one of which only the events know."""
    make("r1")
    with store.hold("r1") as hold:
        own = ProcessIdentity.own()
        attempt = store.begin_attempt(hold, process=own, governor=own, **BEGIN)
        attempt.events.append("session_started", pid=1)
        attempt.events.append("checkpoint_saved", path="/c/step-000000000004", step=4)
        attempt.events.append(
            "session_finished", outcome="timeboxed", reason="over", steps=9, step=9, loss=0.5
        )
        attempt.events.close()
        return store.finish_attempt(
            hold,
            1,
            outcome=Outcome.TIMEBOXED,
            reason="over",
            measured={},
            steps=9,
            last_step=9,
            last_loss=0.5,
        )


@pytest.mark.parametrize("junk", DAMAGE, ids=lambda junk: repr(junk[:8]))
def test_a_damaged_record_is_rebuilt_from_the_copy_beside_it(
    store: RunStore, make: Make, junk: bytes
) -> None:
    """It is shown with a warning, and written anew when the run is next held; what was damaged is kept."""
    whole = _trained(store, make)
    folder = store.run_dir("r1")
    (folder / "run.json").write_bytes(junk)
    rebuilt = store.load("r1")
    assert (rebuilt.command, rebuilt.cwd, rebuilt.options) == (whole.command, whole.cwd, whole.options)
    assert rebuilt.status is not Outcome.RUNNING
    assert rebuilt.resumable
    assert (rebuilt.last_step, rebuilt.last_loss, rebuilt.checkpoints) == (9, 0.5, ("/c/step-000000000004",))
    assert len(store.warnings) == 1
    assert "run.json is damaged" in store.warnings[0]
    with store.hold("r1") as hold:
        store.begin_attempt(hold, process=ProcessIdentity.own(), **BEGIN).events.close()
        store.finish_attempt(hold, 2, outcome=Outcome.COMPLETED, reason="done", measured={})
    assert [attempt.number for attempt in store.load("r1").attempts] == [1, 2]
    assert next(folder.glob("run.json.corrupt.*")).read_bytes() == junk
    assert RunStore(store.home, store._clock).load("r1").status is Outcome.COMPLETED


def test_without_the_copy_whole_fields_and_attempts_are_found(store: RunStore, make: Make) -> None:
    """A record that was cut off in its middle still tells the command; the attempts' folders tell the rest."""
    whole = _trained(store, make)
    folder = store.run_dir("r1")
    (folder / "run.json.before").unlink()
    text = (folder / "run.json").read_bytes()
    (folder / "run.json").write_bytes(text[: text.index(b'"attempts"') + 40])
    rebuilt = store.load("r1")
    assert (rebuilt.command, rebuilt.created_wall) == (whole.command, whole.created_wall)
    assert [(a.number, a.outcome, a.steps) for a in rebuilt.attempts] == [(1, Outcome.TIMEBOXED, 9)]
    assert rebuilt.status is Outcome.TIMEBOXED


def test_where_nothing_is_left_the_checkpoints_are(store: RunStore, make: Make) -> None:
    """Half a command would be another experiment: it cannot be resumed, but it is shown with its checkpoints."""
    _trained(store, make)
    folder = store.run_dir("r1")
    (folder / "run.json.before").unlink()
    (folder / "run.json").write_bytes(b"")
    rebuilt = store.load("r1")
    assert not rebuilt.resumable
    assert rebuilt.checkpoints == ("/c/step-000000000004",)
    assert {row.id for row in store.list_rows()} == {"r1"}
    (folder / "run.json").unlink()
    assert store.load("r1").last_step == 9


def test_damage_while_it_trains_does_not_end_its_attempt(store: RunStore, make: Make) -> None:
    """The governor that holds the run writes the end of the attempt over a record that somebody has emptied."""
    make("r1")
    with store.hold("r1") as hold:
        own = ProcessIdentity.own()
        attempt = store.begin_attempt(hold, process=own, governor=own, **BEGIN)
        attempt.events.append("session_started", pid=1)
        attempt.events.close()
        attempt.governor_log.write_text("")
        (hold.run_dir / "run.json").write_bytes(b"")
        (hold.run_dir / "run.json.before").write_bytes(b"")
        assert store.load("r1").status is Outcome.RUNNING
        ended = store.finish_attempt(hold, 1, outcome=Outcome.COMPLETED, reason="done", measured={})
    assert ended.status is Outcome.COMPLETED


def test_a_record_of_a_newer_backprop_is_left_alone(store: RunStore, make: Make) -> None:
    """It is not damage: rebuilding it would lose what this version does not know."""
    _trained(store, make)
    path = store.run_dir("r1") / "run.json"
    content = {**json.loads(path.read_text()), "format_version": 99}
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="Update"):
        store.load("r1")
    with pytest.raises(StoreError, match="Update"):
        store.hold("r1")
    assert json.loads(path.read_text()) == content
    assert Path(path).exists()
