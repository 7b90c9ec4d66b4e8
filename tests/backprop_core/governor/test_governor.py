"""The governor with real processes and a clock that misbehaves."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from backprop_core.clock import SystemClock
from backprop_core.errors import UsageError
from backprop_core.governor import kernel
from backprop_core.governor.governor import Governor
from backprop_core.governor.monitor import Monitor
from backprop_core.governor.observed import EndCause, Ending, View
from backprop_core.governor.order import Order
from backprop_core.governor.verdict import judge
from backprop_core.resources.policy import Limits
from backprop_core.resources.samples import HostSample, Sample


class Quiet:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def before_output(self, data: bytes = b"\n") -> None: ...

    def after_output(self, at_line_start: bool) -> None: ...

    def event(self, event: Any) -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)

    def tick(self, view: View) -> None: ...


class JumpingClock(SystemClock):
    """Its wall time is an hour ahead after the first look, and an hour behind after the second."""

    def __init__(self) -> None:
        self.jumps = [0.0, 3600.0, -3600.0]

    def wall(self) -> float:  # type: ignore[override]
        self.jumps.append(self.jumps.pop(0))
        return time.time() + self.jumps[0]


def govern(folder: Path, *argv: str, budget_s: float, clock: Any = None) -> Ending:
    clock = clock or SystemClock()
    deadline = clock.monotonic() + budget_s if math.isfinite(budget_s) else math.inf
    order = Order(argv, str(folder), os.environ, folder, deadline, budget_s, 30.0)
    return Governor(order, clock, Quiet()).run()


def test_a_wall_clock_that_jumps_changes_no_deadline(tmp_path: Path, capfd: Any) -> None:
    """With wall time an hour off now and then, the time box is as long as it was asked to be."""
    ending = govern(tmp_path, "sleep", "600", budget_s=1.5, clock=JumpingClock())
    assert ending.cause is EndCause.DEADLINE
    assert 1.0 < ending.used_s < 1.5
    assert ending.unused_s > 0


def test_signal_handlers_are_put_back(tmp_path: Path, capfd: Any) -> None:
    """After a run the process hears signals as before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGWINCH)
    before = [signal.getsignal(number) for number in numbers]
    assert govern(tmp_path, sys.executable, "-c", "pass", budget_s=30.0).returncode == 0
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_program_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    """What cannot be started is named, and nothing is left behind."""
    with pytest.raises(UsageError, match="/nowhere/python"):
        govern(tmp_path, "/nowhere/python", budget_s=30.0)


DAEMON = """
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open("daemon", "w").write(str(os.getpid()))
time.sleep(600)
"""


def test_no_daemon_of_the_script_outlives_it(tmp_path: Path, capfd: Any) -> None:
    """A double fork that is under way while the script ends leaves nobody behind, and what was ended is named.

    The script that has ended itself says nothing of the daemon: twenty tries, of which one look each had missed some.
    """
    for _ in range(20):
        (tmp_path / "daemon").unlink(missing_ok=True)
        ending = govern(tmp_path, sys.executable, "-c", DAEMON, budget_s=60.0)
        assert kernel.childless()
        assert len(ending.leftovers) == 1
        reason = judge(ending, resumable=False).reason
        assert "left 1 process running" in reason
        assert "foreground" in reason


def test_no_file_descriptor_is_left_open(tmp_path: Path, capfd: Any) -> None:
    """Ten runs in one process, as --until-done makes them, leave as many open files as there were."""
    govern(tmp_path, "true", budget_s=30.0)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    for _ in range(10):
        govern(tmp_path, "true", budget_s=30.0)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


class FakeSampler:
    """A sampler that always answers with the same free memory."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.clock = SystemClock()

    def latest(self, *, every_s: float) -> Sample:
        return Sample(
            self.clock.monotonic(), HostSample(memory_total_bytes=8 << 30, memory_free_bytes=self.free_bytes)
        )


def test_memory_that_runs_out_ends_the_run_with_a_checkpoint(tmp_path: Path, capfd: Any) -> None:
    """The script is asked to save before the kernel kills, and the reason says how much was left."""
    clock, observer = SystemClock(), Quiet()
    save = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(600)"
    order = Order(
        [sys.executable, "-c", save], str(tmp_path), os.environ, tmp_path, clock.monotonic() + 60, 60, 30
    )
    sampler: Any = FakeSampler(1 << 20)
    monitor = Monitor(sampler, Limits(), (), tmp_path / "governor.jsonl", clock)
    ending = Governor(order, clock, observer, monitor=monitor).run()
    assert ending.cause is EndCause.MEMORY
    assert not ending.killed
    assert "0.00 GB is left" in judge(ending, resumable=True).reason
    assert '"stop"' in (tmp_path / "governor.jsonl").read_text()
