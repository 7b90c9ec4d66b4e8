"""Long and rough: many kills, and file systems that are really full or read-only. Run by `make test-faults`."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backprop_core.clock import SYSTEM
from backprop_core.errors import StoreError
from backprop_core.outcome import Outcome
from backprop_core.runs.events import read_events
from backprop_core.runs.home import backprop_home
from backprop_core.runs.record import ProcessIdentity
from backprop_core.runs.store import RunStore

pytestmark = pytest.mark.faults

LIFE = """
import sys
from pathlib import Path
from backprop_core.clock import SYSTEM
from backprop_core.outcome import Outcome
from backprop_core.runs.record import ProcessIdentity
from backprop_core.runs.store import RunStore
store = RunStore(Path(sys.argv[1]), SYSTEM)
print("ready", flush=True)
while True:
    with store.hold("r1") as hold:
        own = ProcessIdentity.own()
        attempt = store.begin_attempt(hold, process=own, budget_s=1.0, budget_source="", resumed_from=None)
        for step in range(3):
            attempt.events.append("progress", step=step, loss=0.5)
            store.remember_checkpoint(hold, f"/c/{attempt.number}-{step}")
        store.finish_attempt(hold, attempt.number, outcome=Outcome.TIMEBOXED, reason="", measured={}, last_step=2)
        attempt.events.close()
"""


def test_a_hundred_kills_leave_a_consistent_store(tmp_path: Path) -> None:
    """SIGKILL at 100 random moments of a run's life: record, index and events are whole, and the run goes on."""
    home = backprop_home({"BACKPROP_HOME": str(tmp_path / "home")})
    store = RunStore(home, SYSTEM)
    store.create(run_id="r1", name=None, command=["t.py"], cwd="/", interpreter="p", options={})
    rng = random.Random(7)
    attempts = 0
    for _ in range(100):
        process = subprocess.Popen([sys.executable, "-c", LIFE, str(home)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        SYSTEM.sleep(rng.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        record = store.load("r1")
        assert record.status in (Outcome.LOST, Outcome.TIMEBOXED)
        assert [attempt.number for attempt in record.attempts] == list(range(1, len(record.attempts) + 1))
        assert len(record.attempts) >= attempts
        attempts = len(record.attempts)
        assert json.loads((home / "experiments.json").read_text())["r1"]["id"] == "r1"
        assert [row.id for row in store.list_rows()] == ["r1"]
        with store.hold("r1"):
            assert store.load("r1").last_attempt is None or store.load("r1").ended_wall is not None
    assert attempts > 50
    assert store.warnings == []
    assert {path.name for path in store.run_dir("r1").iterdir()} == {
        "lock",
        "run.json",
        "run.json.before",
        "attempts",
    }
    for number in range(1, attempts + 1):
        steps = [event["step"] for event in read_events(store.attempt_dir("r1", number) / "events.jsonl")]
        assert steps == list(range(len(steps)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with one megabyte. Needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path) -> None:
    """Write to `path` until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_a_full_disk_costs_news_and_nothing_else(small_disk: Path) -> None:
    """On a really full disk nothing old is lost, errors have their sentence, and events never raise."""
    store = RunStore(backprop_home({"BACKPROP_HOME": str(small_disk / "home")}), SYSTEM)
    make = {"name": None, "command": ["t.py"], "cwd": "/", "interpreter": "p", "options": {}}
    store.create(run_id="r1", **make)  # type: ignore[arg-type]
    with store.hold("r1") as hold:
        attempt = store.begin_attempt(
            hold, process=ProcessIdentity.own(), budget_s=1.0, budget_source="", resumed_from=None
        )
        attempt.events.append("one")
        filler = small_disk / "filler"
        fill(filler)
        before = (store.run_dir("r1") / "run.json").read_bytes()
        for step in range(2000):
            attempt.events.append("progress", step=step, text="x" * 100)
        assert attempt.events.dropped > 1000
        store.remember_checkpoint(hold, "/c")  # into the room of the older copy, which goes
        after = (store.run_dir("r1") / "run.json").read_bytes()
        assert after != before
        assert (store.run_dir("r1") / "run.json.before").read_bytes() == before
        with pytest.raises(StoreError):
            store.create(run_id="r2", **make)  # type: ignore[arg-type]
        assert (store.run_dir("r1") / "run.json").read_bytes() == after
        assert json.loads((store.home / "experiments.json").read_text())["r1"]["id"] == "r1"
        filler.unlink()
        attempt.events.append("last")
        store.remember_checkpoint(hold, "/c")
    events = list(read_events(attempt.directory / "events.jsonl"))
    assert events[0]["kind"] == "one"
    assert (events[-1]["kind"], events[-1]["dropped_before"]) == ("last", attempt.events.dropped)
    assert [record.id for record in store.list()] == ["r1"]


def test_a_home_that_turned_read_only_can_be_looked_at(small_disk: Path) -> None:
    """Writing is refused with a way out, also for root; looking works and changes nothing."""
    environ = {"BACKPROP_HOME": str(small_disk / "home")}
    store = RunStore(backprop_home(environ), SYSTEM)
    store.create(run_id="r1", name=None, command=["t.py"], cwd="/", interpreter="p", options={})
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="BACKPROP_HOME"):
        backprop_home(environ)
    looked = RunStore(backprop_home(environ, write=False), SYSTEM)
    assert looked.load("r1").status is Outcome.LOST
    assert [row.id for row in looked.list_rows()] == ["r1"]
    with pytest.raises(StoreError):
        looked.hold("r1")
