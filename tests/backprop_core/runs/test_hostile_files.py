"""Every reader of every JSON file of a run, over files that hold anything at all."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backprop_core.clock import SYSTEM
from backprop_core.errors import BackpropError, StoreError
from backprop_core.outcome import Outcome
from backprop_core.resources.slots import Slots
from backprop_core.runs.atomic import read_regular
from backprop_core.runs.attempt import attempt_dir
from backprop_core.runs.control import Action, ControlReader, send_control
from backprop_core.runs.events import EventTail, highlights, read_events
from backprop_core.runs.listing import list_rows
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore
from backprop_core.strict_json import decode, encode
from tests.hostile_json import SEEN_TO_BREAK, anything, twisted

Make = Callable[..., RunRecord]
FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _ended(store: RunStore, make: Make, run_id: str) -> Path:
    """The folder of a run with one attempt that has ended."""
    make(run_id)
    with store.hold(run_id) as hold:
        attempt = store.begin_attempt(
            hold, process=ProcessIdentity.own(), budget_s=60.0, budget_source="a test", resumed_from=None
        )
        attempt.events.append("session_started", pid=1, framework="pytorch", attached=False)
        attempt.events.append("progress", step=7, loss=0.5)
        attempt.events.append("checkpoint_saved", path="/c/step-000000000007", seconds=0.1)
        attempt.events.close()
        store.finish_attempt(
            hold, 1, outcome=Outcome.TIMEBOXED, reason="The box was used up.", measured={}, steps=7
        )
    return store.run_dir(run_id)


def _text(value: object) -> bytes:
    return json.dumps(value).encode()


@FEW
@given(st.data())
def test_any_record_is_read_or_rebuilt(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever a run.json holds, its run is shown and can be held and written, and the run beside it is not hidden."""
    store, folder = _home_with_two(tmp_path_factory)
    sound = json.loads((folder / "run.json").read_text())
    if data.draw(st.booleans(), "without the copy"):
        (folder / "run.json.before").unlink()
    (folder / "run.json").write_bytes(_text(data.draw(twisted(sound))))
    with contextlib.suppress(StoreError):  # a newer format and another run's record are left alone
        store.load("bad")
    assert "good" in {record.id for record in store.list()}
    assert "good" in {row.id for row in list_rows(store.home, lambda text: None)}
    with contextlib.suppress(StoreError), store.hold("bad") as hold:
        store.remember_checkpoint(hold, "/c/step-000000000009")
        assert store.load("bad").last_checkpoint == "/c/step-000000000009"


@FEW
@given(st.data())
def test_any_index_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever experiments.json holds, the runs of ours are shown, and the next change puts it right."""
    store, _ = _home_with_two(tmp_path_factory)
    path = store.home / "experiments.json"
    (path).write_bytes(_text(data.draw(twisted(json.loads(path.read_text())))))
    assert {"good", "bad"} <= {row.id for row in list_rows(store.home, lambda text: None)}
    assert {"good", "bad"} <= {record.id for record in store.list()}
    for name in ("good", "npm"):
        with contextlib.suppress(BackpropError):
            store.load(name)
    with store.hold("good") as hold:
        store.remember_checkpoint(hold, "/c/other")
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["good"]["lastCheckpoint"] == "/c/other"


@FEW
@example([{"kind": "progress", "step": 10**400, "loss": 10**400, "wall": float("nan")}])
@example([{"kind": "checkpoint_saved", "path": {"float": []}}])
@given(
    st.lists(
        twisted({"kind": "progress", "step": 1, "loss": 0.5, "wall": 1.7e9, "path": "/c", "seconds": 1.0})
    )
)
def test_any_events_are_read(tmp_path_factory: pytest.TempPathFactory, lines: list[Any]) -> None:
    """Whatever an events file holds, each of its three readers gives events and facts of the kinds that it promises."""
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    path.write_bytes(b"".join(_text(line) + b"\n" for line in lines))
    assert all(isinstance(event["kind"], str) for event in read_events(path))
    assert all(isinstance(event["kind"], str) for event in EventTail(path).poll())
    found = highlights(path)
    assert found.step is None or (type(found.step) is int and abs(found.step) < 2**63)
    assert found.loss is None or type(found.loss) is float
    assert all(isinstance(place, str) and "\0" not in place for place in found.checkpoints)


@FEW
@given(st.data())
def test_any_control_file_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever control.json holds, what is asked for after it arrives."""
    folder = tmp_path_factory.mktemp("control")
    send_control(folder, Action.EXTEND, extend_s=5.0)
    path = folder / "control.json"
    path.write_bytes(_text(data.draw(twisted(json.loads(path.read_text())))))
    reader = ControlReader(path)
    reader.poll()
    send_control(folder, Action.STOP)
    assert [request.action for request in reader.poll()][-1:] == [Action.STOP]


@FEW
@given(st.data())
def test_any_ticket_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever the queue's folder holds, the next process finds its place in it."""
    folder = tmp_path_factory.mktemp("queue")
    slots = Slots(SYSTEM, directory=folder)
    place = slots.enter("first")
    sound = place.ticket.to_json()
    name = data.draw(
        st.sampled_from(["ticket-²", "ticket-", "ticket-000000000077", "ticket-x", "ticket-" + "9" * 40])
    )
    (folder / name).write_bytes(_text(data.draw(twisted(sound))))
    (folder / "queue.lock").write_bytes(_text(data.draw(anything()))[:64])
    with slots.enter("second") as second:
        assert second.ticket.number > 0
        assert "second" not in {ticket.run_id for ticket in slots.holders()}
    place.release()


@FEW
@given(anything())
def test_any_lock_note_is_read(tmp_path_factory: pytest.TempPathFactory, note: Any) -> None:
    """Whatever the note in a run's lock says, the run is busy in a sentence while it is held, and free after that."""
    store, folder = _home_with_two(tmp_path_factory)
    with store.hold("good"):
        (folder.with_name("good") / "lock").write_bytes(_text(note))
        with pytest.raises(BackpropError, match="in use by"):
            store.hold("good")
    store.hold("good").release()


@pytest.mark.parametrize("value", SEEN_TO_BREAK, ids=lambda value: repr(value)[:20])
def test_what_is_decoded_can_be_encoded(value: object) -> None:
    """What one process has read another can be told: decoding and encoding agree on every value."""
    once = decode(_text(value))
    assert encode(decode(encode(once))) == encode(once)


@pytest.mark.parametrize(
    "name",
    ["run.json", "attempts/1/events.jsonl", "attempts/1/governor.jsonl", "attempts/1/control.json", "lock"],
)
def test_a_pipe_in_place_of_a_file_stops_nobody(store: RunStore, make: Make, name: str) -> None:
    """A FIFO has no end to read to: every reader passes it over instead of waiting for a writer."""
    folder = _ended(store, make, "piped")
    _ended(store, make, "good")
    record = json.loads((folder / "run.json").read_text())
    record["status"] = record["attempts"][0]["outcome"] = "running"  # so that a list looks at its events
    (folder / "run.json").write_text(json.dumps(record))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    names: set[str] = set()

    def look() -> None:
        names.update(row.id for row in list_rows(store.home, lambda text: None))
        names.update(run.id for run in store.list())
        list(read_events(attempt_dir(folder, 1) / "events.jsonl"))
        ControlReader(attempt_dir(folder, 1) / "control.json").poll()
        store.load("piped")

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(60)
    assert not looking.is_alive()
    assert names == {"piped", "good"}


def _home_with_two(factory: pytest.TempPathFactory) -> tuple[RunStore, Path]:
    """A home with a run named good and one named bad; the folder of the latter."""
    home = factory.mktemp("home")
    store = RunStore(home, SYSTEM)

    def make(run_id: str) -> RunRecord:
        return store.create(
            run_id=run_id, name=None, command=["train.py"], cwd=home, interpreter="python", options={}
        )

    _ended(store, make, "good")
    return store, _ended(store, make, "bad")


def test_a_small_file_takes_little_memory_whatever_the_limit(tmp_path: Path) -> None:
    """What a file may have at most is not allocated: under `ulimit -v` no run could be begun."""
    path = tmp_path / "small"
    path.write_text("{}")
    tracemalloc.start()
    try:
        assert read_regular(path, 512 << 20) == b"{}"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
