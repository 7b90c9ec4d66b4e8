"""A home, a clock and a store for the tests of runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backprop_core.clock import SYSTEM
from backprop_core.runs.home import backprop_home
from backprop_core.runs.record import ProcessIdentity, RunRecord
from backprop_core.runs.store import RunStore
from backprop_core.testing.clock import FakeClock

Script = Callable[..., subprocess.Popen[str]]


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Return when `condition` is true; fail after `timeout_s` seconds."""
    end = SYSTEM.monotonic() + timeout_s
    while not condition():
        assert SYSTEM.monotonic() < end, f"not within {timeout_s} s"
        SYSTEM.sleep(0.005)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return backprop_home({"BACKPROP_HOME": str(tmp_path / "home")})


@pytest.fixture
def store(home: Path, clock: FakeClock) -> RunStore:
    return RunStore(home, clock)


@pytest.fixture
def make(store: RunStore, tmp_path: Path) -> Callable[..., RunRecord]:
    def make(run_id: str | None = "r1", **changes: object) -> RunRecord:
        facts: dict[str, object] = {
            "name": None,
            "command": ["train.py", "--lr", "0.1"],
            "cwd": tmp_path,
            "interpreter": sys.executable,
            "options": {},
        }
        return store.create(run_id=run_id, **{**facts, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def script() -> Iterator[Script]:
    """Starts Python code as a real process with pipes; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def dead_process() -> ProcessIdentity:
    """The identity of a process that has been alive and is not any more."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(process.pid)
    assert identity.alive()
    process.kill()
    process.communicate()
    return identity
