"""experiments.json: the npm tool's format, shared with the npm tool."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backprop_core.errors import UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs import experiments
from backprop_core.runs.record import ProcessIdentity, RunRecord
from backprop_core.runs.store import RunStore
from backprop_core.testing.clock import FakeClock
from tests.backprop_core.runs.conftest import Script

Make = Callable[..., RunRecord]

NPM = {
    "3f0c": {
        "id": "3f0c",
        "name": "first",
        "scriptPath": "/work/train.py",
        "status": "timeboxed",
        "lastCheckpoint": "/tmp/ckpt.pt",
        "lastStep": 500,
        "lastLoss": 0.015,
        "startTime": 1_690_000_000_000,
        "endTime": 1_690_000_600_000,
        "extra": {"kept": True},
    },
    "run": {"id": "run", "scriptPath": "b.py", "status": "running", "startTime": 1_690_000_100_000},
    "../evil": {"id": "../evil", "scriptPath": "c.py", "status": "failed", "startTime": 5},
}


def written(home: Path) -> dict[str, Any]:
    loaded = json.loads((home / "experiments.json").read_text(), parse_constant=pytest.fail)
    assert isinstance(loaded, dict)
    return loaded


def finish(store: RunStore, run_id: str, outcome: Outcome, **facts: Any) -> RunRecord:
    with store.hold(run_id) as hold:
        attempt = store.begin_attempt(
            hold, process=ProcessIdentity.own(), budget_s=1.0, budget_source="test", resumed_from=None
        )
        return store.finish_attempt(hold, attempt.number, outcome=outcome, reason="", measured={}, **facts)


def test_an_entry_has_the_npm_tools_keys_and_units(
    home: Path, store: RunStore, clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """A finished run is written with exactly the npm tool's keys, times in ms, paths absolute."""
    (tmp_path / "train.py").write_text("")
    record = make("r1", name="digits")
    assert set(written(home)["r1"]) == {"id", "name", "scriptPath", "status", "checkpoints", "startTime"}
    clock.advance(61.5)
    finish(store, "r1", Outcome.TIMEBOXED, last_step=500, last_loss=0.015, last_checkpoint="/c/step-5")
    assert written(home)["r1"] == {
        "id": "r1",
        "name": "digits",
        "scriptPath": str(tmp_path / "train.py"),
        "status": "timeboxed",
        "lastCheckpoint": "/c/step-5",
        "checkpoints": ["/c/step-5"],
        "lastStep": 500,
        "lastLoss": 0.015,
        "startTime": round(record.created_wall * 1000),
        "endTime": round((record.created_wall + 61.5) * 1000),
    }


def test_the_index_holds_the_newest_checkpoints_alone(home: Path, store: RunStore, make: Make) -> None:
    """A run of many saves does not make every list slow; its record remembers more, none twice."""
    make("r1")
    with store.hold("r1") as hold:
        for number in [*range(30), 5]:
            store.remember_checkpoint(hold, f"/c/{number}")
    assert written(home)["r1"]["checkpoints"] == [f"/c/{n}" for n in range(11, 30)] + ["/c/5"]
    assert len(store.load("r1").checkpoints) == 30
    assert store.load("r1").last_checkpoint == "/c/5"


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_without_a_json_word_is_left_out(home: Path, store: RunStore, make: Make, loss: float) -> None:
    """The npm tool could not parse the file with a bare NaN in it; our own record keeps the value."""
    make("r1")
    finish(store, "r1", Outcome.FAILED, last_loss=loss)
    assert "lastLoss" not in written(home)["r1"]
    kept = store.load("r1").last_loss
    assert kept is not None
    assert kept == loss or math.isnan(kept)


def test_runs_of_the_npm_tool_are_kept_listed_and_never_paths(
    home: Path, store: RunStore, make: Make
) -> None:
    """Its entries stay as they are, unknown keys included, and appear as foreign runs; an evil id is only
    text.
    """
    (home / "experiments.json").write_text(json.dumps(NPM))
    make("mine")
    assert {key: written(home)[key] for key in NPM} == NPM
    by_id = {record.id: record for record in store.list()}
    first = by_id["3f0c"]
    assert (first.foreign, first.status, first.last_step) == (True, Outcome.TIMEBOXED, 500)
    assert first.resumable
    assert first.command == ("/work/train.py",)
    assert by_id["run"].status is Outcome.LOST
    assert not by_id["run"].resumable
    assert by_id["../evil"].foreign
    rows = {row.id: row for row in store.list_rows()}
    assert rows["3f0c"].ended_wall == 1_690_000_600.0
    assert rows.keys() == by_id.keys() == NPM.keys() | {"mine"}
    assert not rows["mine"].foreign
    assert store.load("3f0c").foreign
    assert store.load("3f").id == "3f0c"
    assert store.load("../evil").foreign


def test_a_foreign_run_can_be_adopted_and_continued(home: Path, store: RunStore) -> None:
    """Adopting makes a run of our own with the checkpoint, unless its id cannot name a folder."""
    (home / "experiments.json").write_text(json.dumps(NPM))
    adopted = store.adopt(store.load("3f0c"))
    assert not store.load("3f0c").foreign
    assert adopted.last_checkpoint == "/tmp/ckpt.pt"
    ended = finish(store, "3f0c", Outcome.COMPLETED)
    assert ended.status is Outcome.COMPLETED
    assert written(home)["3f0c"]["extra"] == {"kept": True}
    with pytest.raises(UsageError):
        store.adopt(store.load("../evil"))


def test_a_file_as_the_npm_tool_writes_it_works_unchanged(home: Path, store: RunStore, make: Make) -> None:
    """A file of that tool, checked in: every run is listed with its facts and kept to the last value."""
    text = (Path(__file__).parent / "fixtures" / "npm-experiments.json").read_text(encoding="utf-8")
    (home / "experiments.json").write_text(text, encoding="utf-8")
    rows = {row.id: row for row in store.list_rows()}
    first = rows["7d0f1c9e-52b8-4e0c-9a57-0d1f3a1c2b11"]
    assert (first.name, first.status, first.last_step, first.last_loss, first.checkpoints) == (
        "my-first-run", Outcome.TIMEBOXED, 500, 0.015, 2,
    )  # fmt: skip
    assert first.ended_wall == 1735690200.123
    assert store.load("7d0f").resumable
    assert rows["run-1735700000000"].status is Outcome.LOST
    odd = store.load("überlauf läuft")
    assert (odd.name, odd.last_step, odd.status) == ("名前", 0, Outcome.COMPLETED)
    make("mine")
    after = written(home)
    del after["mine"]
    assert after == json.loads(text)
    assert store.warnings == []


DAMAGED = {
    "empty": b"",
    "torn": b'{"a": {"id": "a", "st',
    "not an object": b"[1, 2]",
    "not text": b"\xff\xfe\0\0",
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_set_aside_and_rebuilt(home: Path, store: RunStore, make: Make, kind: str) -> None:
    """Looking changes nothing and still shows our runs; the next write keeps the damaged file and
    rebuilds.
    """
    make("one")
    make("two")
    (home / "experiments.json").write_bytes(DAMAGED[kind])
    assert {row.id for row in store.list_rows()} == {"one", "two"}
    assert "damaged" in store.warnings.pop()
    assert (home / "experiments.json").read_bytes() == DAMAGED[kind]
    make("three")
    aside = list(home.glob("experiments.json.corrupt.*"))
    assert [path.read_bytes() for path in aside] == [DAMAGED[kind]]
    assert aside[0].name == "experiments.json.corrupt.20231114T221320Z"
    assert set(written(home)) == {"one", "two", "three"}
    assert aside[0].name in store.warnings.pop()


def test_two_damages_in_one_second_are_both_kept(home: Path, make: Make) -> None:
    """Setting aside never overwrites what was set aside before."""
    for number in range(3):
        (home / "experiments.json").write_text(f"junk {number}")
        make(f"r{number}")
    assert len(list(home.glob("experiments.json.corrupt.*"))) == 3


def test_entries_of_the_wrong_shape_do_no_harm(home: Path, store: RunStore, make: Make) -> None:
    """Values that are no runs are kept in the file and left out of the list; wrong fields count as not
    said.
    """
    odd = {
        "a": 5,
        "b": None,
        "c": {"status": ["x"], "startTime": "y", "checkpoints": [1, "/p"], "lastStep": True, "name": 7},
        "d": {"lastLoss": math.nan, "startTime": 1e400},
    }
    (home / "experiments.json").write_text(json.dumps(odd))
    make("mine")
    assert {row.id for row in store.list_rows()} == {"c", "d", "mine"}
    record = store.load("c")
    assert (record.last_step, record.name, record.checkpoints) == (None, None, ("/p",))
    assert written(home)["a"] == 5
    assert written(home)["d"]["lastLoss"] is None


def test_what_the_npm_tool_dropped_is_put_back(home: Path, store: RunStore, make: Make) -> None:
    """The npm tool writes back what it once read; our runs are shown all the same, and return with the
    next write.
    """
    make("old")
    before = (home / "experiments.json").read_bytes()
    make("new")
    (home / "experiments.json").write_bytes(before)
    assert {row.id for row in store.list_rows()} == {"old", "new"}
    make("newest")
    assert set(written(home)) == {"old", "new", "newest"}


def test_an_index_that_cannot_be_written_does_not_end_a_run(home: Path, store: RunStore, make: Make) -> None:
    """It is derived: its failure becomes a warning, and the record is written."""
    (home / "experiments.lock").unlink(missing_ok=True)
    (home / "experiments.lock").mkdir()
    record = make("r1")
    assert store.load(record.id).id == "r1"
    assert "experiments.lock" in store.warnings[0]


def test_left_over_temporaries_are_swept(home: Path, make: Make) -> None:
    """What killed writers left is removed by the next writer."""
    make("r1")
    left = home / ".backprop-tmp-experiments.json-1-abcd"
    left.write_text("half")
    make("r2")
    assert not left.exists()
    assert not list(home.glob("*tmp*"))


WRITER = """
import sys
from pathlib import Path
from backprop_core.clock import SYSTEM
from backprop_core.runs.store import RunStore
store = RunStore(Path(sys.argv[1]), SYSTEM)
for number in range(10):
    store.create(run_id=f"{sys.argv[2]}-{number}", name=None, command=["t.py"], cwd="/", interpreter="p",
    options={})
assert not store.warnings, store.warnings
"""


def test_concurrent_writers_lose_nothing(home: Path, script: Script) -> None:
    """Four processes that each make ten runs at the same time leave forty entries, the npm tool's kept."""
    (home / "experiments.json").write_text(json.dumps(NPM))
    writers = [script(WRITER, str(home), f"w{number}") for number in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert len(written(home)) == 40 + len(NPM)
    assert experiments.read_index(home).damage is None
