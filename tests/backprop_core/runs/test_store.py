"""The store: one writer a run, moves along the table, and nothing that damage or a kill can do to it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backprop_core.clock import SYSTEM
from backprop_core.errors import IllegalMoveError, RunBusyError, RunNotFoundError, StoreError, UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import Attempt
from backprop_core.runs.control import send_control
from backprop_core.runs.record import ProcessIdentity, RunRecord
from backprop_core.runs.record_json import DamagedRecordError, read_record
from backprop_core.runs.store import RunStore
from backprop_core.testing.clock import FakeClock
from tests.backprop_core.runs.conftest import Script, dead_process, wait_until

Make = Callable[..., RunRecord]
BEGIN: dict[str, Any] = {"budget_s": 600.0, "budget_source": "-m 10", "resumed_from": None}


def test_a_record_comes_back_as_it_was(store: RunStore, make: Make, clock: FakeClock) -> None:
    """Every field of a run and its attempts survives the way over the disk."""
    make("r1", name="a name", options={"max_run_minutes": 10, "gpu": None}, versions={"torch": "2.13"})
    with store.hold("r1") as hold:
        governor = ProcessIdentity.own()
        attempt = store.begin_attempt(hold, process=governor, governor=governor, **BEGIN)
        clock.advance(5.0)
        store.remember_checkpoint(hold, Path("/c/one"))
        done = store.finish_attempt(
            hold,
            attempt.number,
            outcome=Outcome.TIMEBOXED,
            reason="The time box was over.",
            measured={"step_s": 0.01, "pauses": []},
            exit_status=0,
            steps=500,
            last_step=500,
            last_loss=0.25,
            last_checkpoint="/c/two",
        )
    assert store.load("r1") == done
    assert done.checkpoints == ("/c/one", "/c/two")
    assert done.attempts[0].ended_wall == clock.wall()
    assert done.status is Outcome.TIMEBOXED
    assert done.used_s == 5.0
    assert done.resumable
    assert store.list() == [done]


def test_run_json_has_a_format_version_and_no_temporary_is_left(store: RunStore, make: Make) -> None:
    """The file names its format; nothing lies beside it but lock and attempts."""
    make("r1")
    content = json.loads((store.run_dir("r1") / "run.json").read_text())
    assert content["format_version"] == 1
    assert sorted(path.name for path in store.run_dir("r1").iterdir()) == ["lock", "run.json"]


def test_an_id_is_taken_once(store: RunStore, make: Make) -> None:
    """A second run of the same id is refused with what to do; made-up ids are free."""
    make("r1")
    with pytest.raises(UsageError, match="resume r1"):
        make("r1")
    assert make(None).id != make(None).id


@pytest.mark.parametrize("run_id", ["../x", "/abs", "a/../../b", "a\0b", "x" * 300, "-x", ".x", "nul"])
def test_ids_from_outside_never_build_a_path(store: RunStore, make: Make, home: Path, run_id: str) -> None:
    """A hostile id is refused by every method, and nothing is made on disk."""
    before = sorted(path for path in home.parent.rglob("*"))
    for method in (
        lambda: make(run_id),
        lambda: store.load(run_id),
        lambda: store.hold(run_id),
        lambda: store.run_dir(run_id),
    ):
        with pytest.raises(UsageError):
            method()
    assert sorted(path for path in home.parent.rglob("*")) == before


def test_a_run_is_found_by_the_beginning_of_its_id(store: RunStore, make: Make) -> None:
    """A unique prefix is enough; an ambiguous one lists the runs; a near miss is asked about."""
    make("digits-1")
    make("digits-2")
    make("text")
    assert store.load("te").id == "text"
    assert store.load("digits-2").id == "digits-2"
    with pytest.raises(RunNotFoundError, match="digits-1, digits-2"):
        store.load("digits")
    with pytest.raises(RunNotFoundError, match="Did you mean digits-1"):
        store.load("digit-1")
    with pytest.raises(RunNotFoundError):
        store.hold("nothing")
    with pytest.raises(RunNotFoundError):
        store.load("")


def test_moves_outside_the_table_are_refused_by_the_store(store: RunStore, make: Make) -> None:
    """No second end, no second attempt beside the first, no outcome RUNNING, no status by another way."""
    make("r1")
    with store.hold("r1") as hold:
        attempt = store.begin_attempt(hold, process=ProcessIdentity.own(), **BEGIN)
        end: dict[str, Any] = {"reason": "", "measured": {}}
        with pytest.raises(IllegalMoveError):
            store.begin_attempt(hold, process=ProcessIdentity.own(), **BEGIN)
        with pytest.raises(IllegalMoveError):
            store.finish_attempt(hold, attempt.number, outcome=Outcome.RUNNING, **end)
        with pytest.raises(IllegalMoveError):
            store.finish_attempt(hold, 2, outcome=Outcome.FAILED, **end)
        with pytest.raises(IllegalMoveError):
            store.amend(hold, status=Outcome.COMPLETED)
        store.finish_attempt(hold, attempt.number, outcome=Outcome.FAILED, **end)
        with pytest.raises(IllegalMoveError):
            store.finish_attempt(hold, attempt.number, outcome=Outcome.COMPLETED, **end)
        again = store.begin_attempt(hold, process=ProcessIdentity.own(), **BEGIN)
        assert again.number == 2
        store.finish_attempt(hold, 2, outcome=Outcome.COMPLETED, **end)
    assert not store.load("r1").resumable


def test_only_a_held_run_is_written(store: RunStore, make: Make) -> None:
    """After release, and with another run's hold, nothing can be written."""
    make("r1")
    hold = store.hold("r1")
    hold.release()
    hold.release()
    with pytest.raises(StoreError, match="no longer held"):
        store.remember_checkpoint(hold, "/c")


def test_amending_changes_what_a_resume_may_change(store: RunStore, make: Make) -> None:
    """Versions and options can be brought up to date under the hold."""
    make("r1")
    with store.hold("r1") as hold:
        store.amend(hold, versions={"torch": "3"}, name="new")
    assert store.load("r1").versions == {"torch": "3"}
    assert store.load("r1").name == "new"


HOLDER = """
import sys
from pathlib import Path
from backprop_core.clock import SYSTEM
from backprop_core.runs.record import ProcessIdentity
from backprop_core.runs.store import RunStore
store = RunStore(Path(sys.argv[1]), SYSTEM)
hold = store.hold("r1")
attempt = store.begin_attempt(
    hold, process=ProcessIdentity.own(), budget_s=None, budget_source="", resumed_from=None
)
attempt.events.append("progress", step=41, loss=float("nan"))
attempt.events.append("checkpoint_saved", path="/c/step-41", step=41)
attempt.events.append("progress", step=42, loss=0.5)
print("held", flush=True)
sys.stdin.readline()
"""


def held(script: Script, home: Path) -> Any:
    process = script(HOLDER, str(home))
    assert process.stdout.readline() == "held\n"
    return process


def test_two_processes_cannot_hold_one_run(home: Path, make: Make, script: Script) -> None:
    """The second is refused with the pid of the first and what to do; it looks running to everybody."""
    make("r1")
    holder = held(script, home)
    store = RunStore(home, SYSTEM)
    with pytest.raises(RunBusyError, match=f"process {holder.pid}") as caught:
        store.hold("r1")
    assert "backprop stop r1" in caught.value.hint
    with pytest.raises(UsageError):
        make("r1")
    assert store.load("r1").status is Outcome.RUNNING
    (row,) = store.list_rows()
    assert (row.status, row.last_step, row.last_loss) == (Outcome.RUNNING, 42, 0.5)


def test_one_process_cannot_hold_a_run_twice(store: RunStore, make: Make) -> None:
    """The hold is exclusive within a process too, and free again after release."""
    make("r1")
    with store.hold("r1"), pytest.raises(RunBusyError, match=f"process {os.getpid()}"):
        store.hold("r1")
    store.hold("r1").release()


def test_a_killed_run_is_lost_and_can_be_taken_over(home: Path, make: Make, script: Script) -> None:
    """After SIGKILL the run is shown as lost without a write; the next hold writes it, with what the
    events told.
    """
    make("r1")
    holder = held(script, home)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    store = RunStore(home, SYSTEM)
    before = (store.run_dir("r1") / "run.json").read_bytes()
    seen = store.load("r1")
    assert seen.status is Outcome.LOST
    assert (seen.last_step, seen.last_loss, seen.last_checkpoint) == (42, 0.5, "/c/step-41")
    assert str(holder.pid) in seen.attempts[0].reason
    assert [row.status for row in store.list_rows()] == [Outcome.LOST]
    assert [record.status for record in store.list()] == [Outcome.LOST]
    assert (store.run_dir("r1") / "run.json").read_bytes() == before
    with store.hold("r1") as hold:
        attempt = store.begin_attempt(hold, process=ProcessIdentity.own(), **BEGIN)
        assert attempt.number == 2
    assert store.load("r1").attempts[0].outcome is Outcome.LOST


FORKER = """
import os, sys
from pathlib import Path
from backprop_core.clock import SYSTEM
from backprop_core.runs.store import RunStore
hold = RunStore(Path(sys.argv[1]), SYSTEM).hold("r1")
child = os.fork()
if child == 0:
    os.read(0, 1)
    os._exit(0)
print(child, flush=True)
sys.stdin.readline()
"""


def test_an_orphaned_worker_does_not_keep_the_run(home: Path, make: Make, script: Script) -> None:
    """A forked worker that outlives its killed parent holds nothing."""
    make("r1")
    parent = script(FORKER, str(home))
    assert parent.stdout is not None
    worker = ProcessIdentity.of(int(parent.stdout.readline()))
    store = RunStore(home, SYSTEM)
    with pytest.raises(RunBusyError):
        store.hold("r1")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert worker.alive()
    store.hold("r1").release()
    os.kill(worker.pid, signal.SIGKILL)


def test_a_run_whose_governor_was_killed_stays_busy_while_its_script_lives(
    store: RunStore, make: Make, script: Script
) -> None:
    """The script saves and ends by itself; until then nobody may start a second one beside it."""
    make("r1")
    child = script("input()")
    with store.hold("r1") as hold:
        attempt = store.begin_attempt(hold, process=ProcessIdentity.own(), governor=dead_process(), **BEGIN)
        store.set_process(hold, attempt.number, ProcessIdentity.of(child.pid))
    assert store.load("r1").status is Outcome.RUNNING
    with pytest.raises(RunBusyError, match=str(child.pid)):
        store.hold("r1")
    child.kill()
    child.wait()
    assert store.load("r1").status is Outcome.LOST
    store.hold("r1").release()


def test_what_a_lost_attempt_said_at_its_end_is_kept(store: RunStore, make: Make) -> None:
    """A script that ended in order under a killed governor: lost, with its own words, steps and durations."""
    make("r1")
    with store.hold("r1") as hold:
        attempt = store.begin_attempt(hold, process=dead_process(), **BEGIN)
        attempt.events.append("session_finished", outcome="completed", reason="an earlier box")
        attempt.events.append("session_started", pid=1)
        attempt.events.append(
            "session_finished",
            outcome="preempted",
            reason="SIGTERM was received",
            steps=40,
            step=41,
            measured={"step_s": 0.1},
            checkpoint="/c/step-41",
        )
    seen = store.load("r1")
    (ended,) = seen.attempts
    assert (seen.status, seen.last_step, seen.last_checkpoint) == (Outcome.LOST, 41, "/c/step-41")
    assert (ended.steps, ended.measured) == (40, {"step_s": 0.1})
    assert "preempted: SIGTERM was received" in ended.reason


def test_a_run_of_another_machine_is_judged_by_its_lock(store: RunStore, make: Make) -> None:
    """Processes that cannot be seen from here do not make a run lost while its lock is held."""
    make("r1")
    away = replace(ProcessIdentity.own(), boot_id="other/1", host="node17")
    hold = store.hold("r1")
    store.begin_attempt(hold, process=away, **BEGIN)
    assert store.load("r1").status is Outcome.RUNNING
    hold.release()
    assert store.load("r1").status is Outcome.LOST


def test_a_run_that_is_made_and_held_is_running(store: RunStore, make: Make) -> None:
    """Between its making and its first attempt (waiting for memory, say) a held run is running, else lost."""
    make("r1")
    with store.hold("r1"):
        assert store.load("r1").status is Outcome.RUNNING
    assert store.load("r1").status is Outcome.LOST
    with store.hold("r1") as hold:
        store.begin_attempt(hold, process=ProcessIdentity.own(), **BEGIN)


@pytest.mark.parametrize("key", ["id", "status", "attempts", "command", "cwd", "checkpoints", "created_wall"])
def test_each_wrong_field_is_named(store: RunStore, make: Make, key: str) -> None:
    """A field of the wrong kind is damage that the message names."""
    make("r1")
    path = store.run_dir("r1") / "run.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, key: {"x": 1}}))
    with pytest.raises(DamagedRecordError, match=key):
        read_record(path, "r1")


def test_a_record_of_another_run_is_refused(store: RunStore, make: Make) -> None:
    """A folder that was copied or renamed does not pass for the run of its name."""
    make("r1")
    store.run_dir("r1").rename(store.run_dir("r2"))
    with pytest.raises(StoreError, match="r1"):
        store.load("r2")


def test_a_full_disk_leaves_the_record_as_it_was(
    store: RunStore, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the new record cannot be written, the old one is whole and no temporary is left."""
    make("r1")
    before = (store.run_dir("r1") / "run.json").read_bytes()
    with store.hold("r1") as hold:
        monkeypatch.setattr(
            os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(StoreError, match="No space left"):
            store.remember_checkpoint(hold, "/c")
    assert (store.run_dir("r1") / "run.json").read_bytes() == before
    assert sorted(path.name for path in store.run_dir("r1").iterdir()) == [
        "lock",
        "run.json",
        "run.json.before",
    ]


def test_the_training_process_joins_the_attempt_of_its_governor(store: RunStore, make: Make) -> None:
    """It gets events and control, and the governor can follow them; a missing attempt is told."""
    make("r1")
    with store.hold("r1") as hold:
        begun = store.begin_attempt(hold, process=ProcessIdentity.own(), **BEGIN)
        joined = Attempt.join(store.run_dir("r1"), begun.number)
        joined.events.append("session_started", pid=os.getpid())
        send_control(store.attempt_dir("r1", begun.number), "pause")
        assert [request.action for request in joined.control().poll()] == ["pause"]
        assert begun.governor_log.parent == joined.directory
        with pytest.raises(StoreError, match="resume"):
            Attempt.join(store.run_dir("r1"), 2)


def test_where_checkpoints_go(store: RunStore, make: Make, tmp_path: Path) -> None:
    """Into the run's folder, or where asked for, relative to where the run was started."""
    assert store.checkpoints_dir(make("r1")) == store.run_dir("r1") / "checkpoints"
    assert store.checkpoints_dir(make("r2", checkpoint_dir="ckpt")) == tmp_path / "ckpt"
    assert store.checkpoints_dir(make("r3", checkpoint_dir="/ckpt")) == Path("/ckpt")
    remote = make("r4", checkpoint_dir="s3://bucket/runs")
    assert store.checkpoints_place(remote) == "s3://bucket/runs"
    assert store.checkpoints_dir(remote) == store.run_dir("r4") / "checkpoints"


def test_a_removed_run_is_gone_everywhere(store: RunStore, make: Make, home: Path) -> None:
    """Its folder and its line in experiments.json go; the others stay."""
    make("r1")
    make("r2")
    store.remove(store.hold("r1"))
    assert [row.id for row in store.list_rows()] == ["r2"]
    assert [path.name for path in (home / "runs").iterdir()] == ["r2"]
    assert "r1" not in json.loads((home / "experiments.json").read_text())


def test_where_a_run_came_from_is_remembered(store: RunStore, make: Make, tmp_path: Path) -> None:
    """The script's digest and the commit of the checkout around it are in the record."""
    (tmp_path / "train.py").write_text("print()")
    (tmp_path / ".git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / ".git" / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    record = make("r1")
    assert record.git_commit == "a" * 40
    (tmp_path / "train.py").write_text("print(1)")
    assert make("r2").script_digest != record.script_digest
    assert make("r3", command=["missing.py"]).script_digest is None


CHURN = """
import sys
from pathlib import Path
from backprop_core.clock import SYSTEM
from backprop_core.runs.store import RunStore
store = RunStore(Path(sys.argv[1]), SYSTEM)
hold = store.hold("r1")
print("held", flush=True)
number = 0
while True:
    store.remember_checkpoint(hold, f"/c/{number}")
    number += 1
"""


def test_kills_in_the_middle_of_writing_leave_a_whole_store(home: Path, make: Make, script: Script) -> None:
    """Ten SIGKILLs amid writes: each time record and index are whole and the run can be held at once."""
    make("r1")
    store = RunStore(home, SYSTEM)
    for round_number in range(10):
        writer = script(CHURN, str(home))
        assert writer.stdout is not None
        assert writer.stdout.readline() == "held\n"
        target = f"/c/{round_number * 3}"
        wait_until(lambda target=target: target in store.load("r1").checkpoints)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        store.hold("r1").release()
        assert store.load("r1").last_checkpoint is not None
        assert json.loads((home / "experiments.json").read_text())["r1"]["id"] == "r1"
    assert not store.warnings
    assert sorted(path.name for path in store.run_dir("r1").iterdir()) == [
        "lock",
        "run.json",
        "run.json.before",
    ]


def test_importing_the_store_is_light() -> None:
    """Runs pull in no training framework, no numpy and no network."""
    import subprocess

    heavy = ("numpy", "torch", "click", "rich", "http")
    code = f"import sys, backprop_core.runs.store; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
