"""(h) Two processes saving into one run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from backprop_core.runs.store import RunStore
from backprop_core.testing.checkpoint_places import BLOBS
from backprop_core.testing.clock import FakeClock

from .saving import plain, states
from .tracing import ROOT

HOLDING = """
import sys
from pathlib import Path
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from backprop_core.errors import RunBusyError
from backprop_core.runs.store import RunStore
from tests.faults.saving import facts, snapshot
runs = RunStore(Path(sys.argv[1]), SYSTEM)
try:
    hold = runs.hold("r1")
except RunBusyError as error:
    print("told", error, flush=True)
    sys.exit()
CheckpointStore(runs.checkpoints_dir(runs.load("r1")), clock=SYSTEM).commit(snapshot(5), facts(5))
print("saved", flush=True)
sys.stdin.readline()
"""

RACING = """
import sys
from pathlib import Path
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from tests.faults.saving import facts, snapshot
store = CheckpointStore(Path(sys.argv[1]), clock=SYSTEM, keep=1000)
print("ready", flush=True)
sys.stdin.readline()
for step in range(int(sys.argv[2])):
    store.commit(snapshot(step), facts(step))
    store.sweep()
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    """While a live process holds the run, a second one saves nothing and is told who holds it."""
    tmp_path.chmod(0o700)
    runs = RunStore(tmp_path, SYSTEM)
    record = runs.create(run_id="r1", name=None, command=("t.py",), cwd="/", interpreter="python", options={})
    one = start(HOLDING, str(tmp_path))
    assert first_line(one) == "saved\n"
    other = start(HOLDING, str(tmp_path))
    line = first_line(other)
    assert line.startswith("told ")
    assert str(one.pid) in line
    one.communicate("\n")
    other.communicate()
    store = CheckpointStore(runs.checkpoints_dir(record), clock=FakeClock())
    assert [info.step for info in store.list()] == [5]


def race(folder: Path, steps: int) -> None:
    """Two processes save the same steps into one folder at the same time, without a lock."""
    racers = [start(RACING, str(folder), str(steps)) for _ in range(2)]
    assert [first_line(racer) for racer in racers] == ["ready\n", "ready\n"]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate()
        assert racer.returncode == 0
    store = CheckpointStore(folder, clock=FakeClock())
    infos = store.list()
    assert sorted(info.step for info in infos) == sorted([*range(steps), *range(steps)])
    for info in infos:
        assert store.verify(info) == []
        assert plain(store.load(info, BLOBS).states) == plain(states(info.step))
    assert {path.name[:5] for path in folder.iterdir()} == {"step-"}


@pytest.mark.faults
def test_racing_processes_replace_nothing(tmp_path: Path) -> None:
    """200 saves each of the same steps: every one has a name of its own and is whole."""
    race(tmp_path, 200)


def test_two_processes_without_a_lock_replace_nothing(tmp_path: Path) -> None:
    """Twenty of them, fast enough for every day."""
    race(tmp_path, 20)
