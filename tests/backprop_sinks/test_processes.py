"""The process that each sink has: what is told, and that nothing a sink does reaches the training or stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backprop_core.clock import SYSTEM
from backprop_core.events.kinds import AttemptEnded, AttemptStarted, Message, Stopping
from backprop_core.governor.sink_processes import SINKS_FOLDER, SinkProcesses
from backprop_core.runs.attempt import EVENTS_FILE, GOVERNOR_FILE, attempt_dir
from backprop_core.runs.events import EventLog
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore
from backprop_sinks.process import MOST_OUTPUT_BYTES, OUTPUT_FILE
from tests.backprop_cli.commandline import gone, number_in, wait_for
from tests.backprop_sinks import faulty


class Stage:
    """A run's folder with attempts whose files a test writes, and the sinks beside it."""

    def __init__(self, folder: Path) -> None:
        store = RunStore(folder / "home", SYSTEM)
        self.record: RunRecord = store.create(
            command=["train.py"], cwd=folder, interpreter=sys.executable, run_id="r", name=None, options={}
        )
        self.run_dir = folder / "r"
        self.said: list[str] = []

    def sinks(self, *names: str, patience_s: float = 60.0) -> SinkProcesses:
        return SinkProcesses(
            names, self.record, self.run_dir, SYSTEM, self.said.append, patience_s=patience_s
        )

    def attempt(self, number: int, *, ended: bool = True) -> None:
        """An attempt of two events of its session between those of its governor."""
        folder = attempt_dir(self.run_dir, number)
        folder.mkdir(parents=True, exist_ok=True)
        governor, session = EventLog(folder / GOVERNOR_FILE, SYSTEM), EventLog(folder / EVENTS_FILE, SYSTEM)
        governor.write(AttemptStarted("r", None, number, 60.0, None))
        session.write(Message("hello", "info"))
        session.write(Stopping("deadline", "over"))
        if ended:
            governor.write(
                AttemptEnded("r", None, number, "timeboxed", "", 0, 3, 0.5, None, 1.0, False, None)
            )

    def of(self, sink: str, name: str) -> Path:
        return self.run_dir / SINKS_FOLDER / sink / name

    def pid(self, sink: str, name: str = "pid") -> int:
        return int(wait_for(lambda: number_in(self.of(sink, name))))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("PYTHONPATH", faulty.install(tmp_path))
    return Stage(tmp_path)


def test_every_event_of_every_attempt_is_told_in_order(stage: Stage) -> None:
    """Two attempts of one command are told by one process, the end of each behind all that its session said."""
    sinks = stage.sinks("good")
    for number in (1, 2):
        stage.attempt(number)
        sinks.begin(number)
    sinks.close()
    of_one = ["attempt_started", "message", "stopping", "attempt_ended"]
    assert stage.of("good", "told").read_text().split("\n")[:-1] == [
        f"{n} {kind}" for n in (1, 2) for kind in of_one
    ]
    assert stage.of("good", "closed").exists()
    assert stage.said == []


def test_a_faulty_sink_harms_no_other_and_is_told_once(stage: Stage) -> None:
    """Beside sinks that fail, die, flood and never begin, a good one is told everything; one sentence each says what
    is wrong.
    """
    sinks = stage.sinks("fails", "never", "floods", "dies", "good")
    stage.attempt(1)
    sinks.begin(1)
    wait_for(lambda: sinks.look() or any("dies" in line for line in stage.said))
    sinks.close()
    assert len(stage.of("good", "told").read_text().splitlines()) == 4
    assert sorted(line.split(";")[0] for line in stage.said) == [
        "The process of the sink dies ended early",
        "The sink fails failed: RuntimeError: no such server at all",
        "The sink never could not start: OSError: no licence",
    ]
    assert stage.of("floods", OUTPUT_FILE).stat().st_size <= MOST_OUTPUT_BYTES + 65_536
    assert stage.of("floods", "closed").exists()


def test_a_sink_that_hangs_is_ended_with_all_it_has_started(stage: Stage) -> None:
    """Nothing waits for it while a script runs; at the end it has its time, then it and its children are killed, and that is
    said.
    """
    sinks = stage.sinks("hangs", patience_s=0.5)
    stage.attempt(1)
    sinks.begin(1)
    pid, child = stage.pid("hangs"), stage.pid("hangs", "child")
    sinks.look()
    sinks.begin(2)
    began = SYSTEM.monotonic()
    sinks.close()
    assert SYSTEM.monotonic() - began < 30.0
    wait_for(lambda: gone(pid) and gone(child))
    assert "The sink hangs did not finish in time and was stopped" in stage.said[0]


def test_an_end_that_is_near_is_kept(stage: Stage) -> None:
    """Where a scheduler's job ends first, a sink gets no longer than that."""
    sinks = stage.sinks("hangs", patience_s=10_000.0)
    stage.attempt(1)
    sinks.begin(1)
    pid = stage.pid("hangs", "child")
    sinks.close(by=SYSTEM.monotonic() + 0.2)
    wait_for(lambda: gone(pid))


GOVERNOR = """
import sys, time
from pathlib import Path
from tests.backprop_sinks.test_processes import Stage
stage = Stage(Path(sys.argv[1]))
stage.run_dir = Path(sys.argv[2])
sinks = stage.sinks("good")
sinks.begin(1)
time.sleep(1000)
"""


def test_a_sink_outlives_its_governor_as_long_as_it_needs(stage: Stage, tmp_path: Path) -> None:
    """A governor that is killed with -9 leaves a sink that tells what is in the files, closes and is gone."""
    stage.attempt(1, ended=False)
    other = tmp_path / "other"
    other.mkdir()
    governor = subprocess.Popen(
        [sys.executable, "-c", GOVERNOR, str(other), str(stage.run_dir)],
        cwd=Path(__file__).parents[2],
        env=os.environ,
    )
    try:
        pid = stage.pid("good")
        governor.send_signal(signal.SIGKILL)
        governor.wait()
        wait_for(lambda: gone(pid))
    finally:
        governor.kill()
    assert stage.of("good", "closed").exists()
    assert "1 stopping" in stage.of("good", "told").read_text()


def test_a_sink_that_cannot_be_started_is_told(stage: Stage) -> None:
    """A folder of the script's that is gone costs the sink, and nothing else."""
    stage.record = replace(stage.record, cwd="/proc/nothing-here")
    sinks = stage.sinks("good")
    sinks.begin(1)
    sinks.close()
    assert "The sink good could not be started: No such file or directory" in stage.said[0]
