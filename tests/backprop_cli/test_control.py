"""pause, continue, stop, checkpoint and extend, asked from another terminal."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backprop_core.deadline.budget import duration_text
from tests.backprop_cli.commandline import CommandLine, number_in, wait_for
from tests.backprop_cli.sessions import STANDIN

COUNTS = """
    import os, time
    open("pid", "w").write(str(os.getpid()))
    n = 0
    while True:
        time.sleep(0.02)
        n += 1
        open("new", "w").write(str(n)); os.replace("new", "count")
"""


@pytest.fixture
def session(backprop: CommandLine) -> Iterator[subprocess.Popen[str]]:
    """A running script with a session, called `s`."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    process = backprop.start(
        "run", "train.py", "--run-id", "s", "-m", "2"
    )  # longer than a busy machine needs for the commands
    wait_for(lambda: steps(backprop))
    yield process
    process.terminate()
    process.communicate(timeout=240)


@pytest.fixture
def unaware(backprop: CommandLine) -> Iterator[subprocess.Popen[str]]:
    """A running script that never heard of backprop, called `u`."""
    backprop.script(COUNTS)
    process = backprop.start("run", "train.py", "--run-id", "u", "-m", "0.2")
    wait_for(lambda: number_in(backprop.folder / "count"))
    yield process
    process.terminate()
    process.communicate(timeout=240)


def events(backprop: CommandLine) -> str:
    path = backprop.attempt_dir("s") / "events.jsonl"
    return path.read_text() if path.exists() else ""


def steps(backprop: CommandLine) -> int:
    return events(backprop).count('"progress"')


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_stop_ends_a_session_with_a_checkpoint(backprop: CommandLine, session: subprocess.Popen[str]) -> None:
    """The run saves, ends with status 0, and the record says who asked."""
    assert backprop("stop", "s").returncode == 0
    session.communicate(timeout=240)
    assert session.returncode == 0
    record = backprop.record("s")
    assert record["status"] == "stopped"
    assert "backprop stop" in record["attempts"][0]["reason"]


def test_checkpoint_saves_and_goes_on(backprop: CommandLine, session: subprocess.Popen[str]) -> None:
    """A checkpoint appears while the steps go on."""
    assert backprop("checkpoint", "s").returncode == 0
    wait_for(lambda: '"requested"' in events(backprop))
    before = steps(backprop)
    wait_for(lambda: steps(backprop) > before)
    assert session.poll() is None


def test_pause_holds_a_session_at_its_safe_point_and_the_time_box_waits(
    backprop: CommandLine, session: subprocess.Popen[str]
) -> None:
    """Between pause and continue no step is made and the process is not frozen; the deadline moves by as
    much. Before the pause there is nothing to continue, in it nothing to pause, and that is said.
    """
    refused = backprop("continue", "s")
    assert refused.returncode == 2
    assert "Run s is not paused, so there is nothing to continue." in refused.stderr
    assert backprop("pause", "s").returncode == 0
    wait_for(lambda: '"heard", ' in events(backprop))
    before = steps(backprop)
    pid = backprop.record("s")["attempts"][0]["process"]["pid"]
    assert state(pid) != "T"
    shown = wait_for(lambda: (ran := backprop("status", "s").stdout).startswith("run s: paused") and ran)
    assert "time box waits" in shown
    assert backprop.runs()[0]["paused"]
    assert "paused" in backprop("list").stdout
    assert steps(backprop) <= before + 1
    again = backprop("pause", "s")
    assert again.returncode == 2
    assert "Run s is paused already. 'backprop continue s' continues it." in again.stderr
    assert backprop("continue", "s").returncode == 0
    wait_for(lambda: steps(backprop) > before + 1)
    shown = wait_for(lambda: (ran := backprop("status", "s").stdout).startswith("run s: running") and ran)
    assert "the time box waited" in shown
    backprop("stop", "s")
    session.communicate(timeout=240)
    (pause,) = backprop.record("s")["attempts"][0]["measured"]["governor"]["pauses"]
    assert pause["seconds"] > 0.1
    assert "backprop pause" in pause["why"]
    ended = backprop.record("s")["attempts"][0]
    (line,) = [line for line in backprop("status", "s").stdout.splitlines() if line.startswith("  1. ")]
    trained_s = ended["measured"]["governor"]["used_s"] - pause["seconds"]
    assert f", {duration_text(trained_s)} of " in line  # its own time, without the pause


def test_pause_freezes_a_script_without_a_session(
    backprop: CommandLine, unaware: subprocess.Popen[str]
) -> None:
    """It is stopped by the kernel, goes on where it was, and its time box has waited."""
    pid = number_in(backprop.folder / "pid") or 0
    asked_at = time.monotonic()
    assert backprop("pause", "u").returncode == 0
    wait_for(lambda: state(pid) == "T")
    paused_at = time.monotonic()
    count = number_in(backprop.folder / "count") or 0
    assert backprop("status", "u").stdout.startswith("run u: paused")
    assert number_in(backprop.folder / "count") == count
    least_s = time.monotonic() - paused_at
    assert backprop("continue", "u").returncode == 0
    wait_for(lambda: (number_in(backprop.folder / "count") or 0) > count)
    most_s = time.monotonic() - asked_at
    unaware.communicate(timeout=240)
    governor = backprop.record("u")["attempts"][0]["measured"]["governor"]
    assert governor["used_s"] > 12.0 - 0.7 + governor["pauses"][0]["seconds"]
    assert least_s - 0.1 < governor["pauses"][0]["seconds"] < most_s + 0.1


def test_a_paused_script_can_be_stopped(backprop: CommandLine, unaware: subprocess.Popen[str]) -> None:
    """A stop wakes a frozen script so that it can end."""
    pid = number_in(backprop.folder / "pid") or 0
    backprop("pause", "u")
    wait_for(lambda: state(pid) == "T")
    backprop("stop", "u")
    unaware.communicate(timeout=240)
    assert backprop.record("u")["status"] == "stopped"


def test_extend_makes_the_time_box_longer(backprop: CommandLine, unaware: subprocess.Popen[str]) -> None:
    """The script outlives its first deadline by what was added."""
    assert backprop("extend", "u", "3s").returncode == 0
    unaware.communicate(timeout=240)
    assert backprop.record("u")["attempts"][0]["measured"]["governor"]["used_s"] > 14.0


def test_a_frozen_script_can_be_given_more_time(backprop: CommandLine) -> None:
    """extend and checkpoint reach a paused script without a session: its box grows, and that it cannot save is said."""
    backprop.script(COUNTS)
    process = backprop.start("run", "train.py", "--run-id", "u", "-m", "0.1")
    pid = wait_for(lambda: number_in(backprop.folder / "pid"))
    backprop("pause", "u")
    wait_for(lambda: state(pid) == "T")
    assert backprop("extend", "u", "2s").returncode == 0
    asked = backprop("checkpoint", "u")
    assert asked.returncode == 2
    assert "backprop is not attached to its script" in asked.stderr
    assert state(pid) == "T"
    assert backprop("continue", "u").returncode == 0
    process.communicate(timeout=240)
    governor = backprop.record("u")["attempts"][0]["measured"]["governor"]
    assert governor["used_s"] > 6.0 + 2.0 + governor["pauses"][0]["seconds"] - 0.7


@pytest.mark.parametrize("command", [["stop"], ["pause"], ["continue"], ["checkpoint"], ["extend"]])
def test_what_does_not_run_cannot_be_asked(backprop: CommandLine, command: list[str]) -> None:
    """A run that is over, and one that is unknown, get a sentence and status 2."""
    backprop.script("")
    backprop("run", "train.py", "--run-id", "over")
    more = ["5m"] if command == ["extend"] else []
    ran = backprop(*command, "over", *more)
    assert ran.returncode == 2
    assert "completed" in ran.stderr
    assert backprop(*command, "nobody", *more).returncode == 2


@pytest.mark.parametrize("duration", ["0s", "-5m", "soon", "1e400s"])
def test_a_duration_that_cannot_be_meant_is_refused(backprop: CommandLine, duration: str) -> None:
    """Zero, negative and unreadable extensions are usage errors."""
    assert backprop("extend", "x", "--", duration).returncode == 2


def test_an_in_process_run_without_governor_is_asked_the_same_way(backprop: CommandLine) -> None:
    """`backprop stop` reaches a run that a script has begun by itself."""
    backprop.script(
        """
        import os, sys, time
        from pathlib import Path
        from backprop_core.clock import SYSTEM
        from backprop_core.outcome import Outcome
        from backprop_core.runs.process import ProcessIdentity
        from backprop_core.runs.store import RunStore
        store = RunStore(Path(os.environ["BACKPROP_HOME"]), SYSTEM)
        store.home.mkdir()
        record = store.create(run_id="alone", name=None, command=sys.argv, cwd=os.getcwd(),
                              interpreter=sys.executable, options={})
        hold = store.hold("alone")
        attempt = store.begin_attempt(hold, process=ProcessIdentity.own(), budget_s=600, budget_source="t",
                                      resumed_from=None)
        control = attempt.control()
        print("up", flush=True)
        while not (requests := control.poll()): time.sleep(0.01)
        store.finish_attempt(hold, 1, outcome=Outcome.STOPPED, reason=requests[0].why, measured={})
        """
    )
    import sys

    process = subprocess.Popen(
        [sys.executable, "train.py"],
        cwd=backprop.folder,
        env=backprop.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert backprop("stop", "alone").returncode == 0
    process.communicate(timeout=240)
    record = json.loads((backprop.home / "runs" / "alone" / "run.json").read_text())
    assert record["status"] == "stopped"
