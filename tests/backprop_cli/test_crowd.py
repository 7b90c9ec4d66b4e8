"""Many commands at once, and faults at random moments: the store stays consistent and no process is left."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import CommandLine, gone, wait_for
from tests.backprop_cli.sessions import STANDIN

# Appends of a few bytes are atomic: the file tells how many ran at any moment. An own kill -9 leaves no "-" line.
NOTES_ITSELF = """
    import os, time
    log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, b"+ %d %f\\n" % (os.getpid(), time.monotonic()))
    time.sleep(0.3)
    os.write(log, b"- %d %f\\n" % (os.getpid(), time.monotonic()))
"""


def most_at_once(log: Path) -> tuple[int, int]:
    """The most scripts that ran at the same time, and how many ran to their end."""
    moments = []
    alive: set[str] = set()
    most = ended = 0
    for line in log.read_text().splitlines():
        sign, pid, at = line.split()
        moments.append((float(at), sign, pid))
    finished = {pid for _, sign, pid in moments if sign == "-"}
    for _, sign, pid in sorted(moments):
        alive = {
            other for other in alive if other in finished
        }  # the killed do not count once another has begun
        alive = alive | {pid} if sign == "+" else alive - {pid}
        ended += sign == "-"
        most = max(most, len(alive))
    return most, ended


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.faults), 5])
def test_twenty_commands_at_once_never_run_more_than_two(backprop: CommandLine, killed: int) -> None:
    """With -p 2 no three scripts overlap, all finish that were not killed, and the store lists every one."""
    backprop.script(NOTES_ITSELF)
    backprop.environment["BACKPROP_MAX_PARALLEL"] = "2"
    started = [backprop.start("run", "train.py", "--run-id", f"r{n:02d}") for n in range(20)]
    chosen = random.Random(7).sample(started, killed)
    for process in chosen:
        wait_for((backprop.folder / "log").exists, deadline_s=120)
        process.kill()
    for process in started:
        process.communicate(timeout=240)
    assert [p.returncode for p in started if p not in chosen] == [0] * (20 - killed)
    most, ended = most_at_once(backprop.folder / "log")
    assert most <= 2
    assert ended >= 20 - killed
    done = [row["id"] for row in backprop.runs() if row["status"] == "completed"]
    assert len(done) >= 20 - killed
    assert not list((Path(backprop.environment["BACKPROP_RUNTIME_DIR"])).glob("ticket-*")) or killed


def chaos(backprop: CommandLine, rounds: int, seed: int) -> None:
    """Kill the governor or the script at random moments, then look at the store and at /proc."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "30"
    dice = random.Random(seed)
    began = SYSTEM.monotonic()
    assert backprop("run", "train.py", "--run-id", "whole").returncode == 0
    whole_s = SYSTEM.monotonic() - began
    for number in range(rounds):
        run = f"c{number:03d}"
        process = backprop.start("run", "train.py", "--run-id", run, "--grace", "2")
        SYSTEM.sleep(dice.uniform(0.0, whole_s))
        victim = dice.choice(("governor", "script", "both", "stop"))
        record = backprop.home / "runs" / run / "run.json"
        pids = _pids(record)
        if victim in ("script", "both") and pids:
            _kill(pids[-1])
        if victim in ("governor", "both"):
            process.kill()
        if victim == "stop":
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=240)
        wait_for(lambda pids=pids: all(gone(pid) for pid in pids))
    ends = assert_consistent(backprop)
    assert len(ends) > rounds // 2
    assert {"lost", "failed"} & {*ends.values()}


def _pids(record: Path) -> list[int]:
    try:
        attempts = json.loads(record.read_text())["attempts"]
    except (OSError, ValueError):
        return []
    return [attempt["process"]["pid"] for attempt in attempts]


def _kill(pid: int) -> None:
    import os
    from contextlib import suppress

    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def assert_consistent(backprop: CommandLine) -> dict[str, str]:
    """Every record can be read, none says running, and experiments.json knows what the records know.

    Returns:
        The status of each run.
    """
    shown = backprop("list", "--json")
    assert shown.returncode == 0
    assert "damaged" not in shown.stderr
    rows = {row["id"]: row["status"] for row in json.loads(shown.stdout)}
    assert "running" not in rows.values()
    for run in rows:
        assert backprop("status", run).returncode == 0
    known = json.loads((backprop.home / "experiments.json").read_text())
    assert known.keys() == rows.keys()
    return rows


@pytest.mark.long
def test_kills_at_random_moments_leave_a_consistent_store(backprop: CommandLine) -> None:
    """Ten times governor, script or both are killed with -9, or asked to stop, somewhere between start and end."""
    chaos(backprop, rounds=10, seed=1)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_hundred_kills_leave_a_consistent_store(backprop: CommandLine) -> None:
    """The same a hundred times."""
    chaos(backprop, rounds=100, seed=2)


def test_a_read_only_home_is_refused_before_anything_runs(backprop: CommandLine, tmp_path: Path) -> None:
    """On a read-only file system `run` gets its sentence and status 2, and `list` still shows what there is."""
    import subprocess

    home = tmp_path / "readonly"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(home)], check=True)
    try:
        backprop.environment["BACKPROP_HOME"] = str(home)
        backprop.script("open('ran', 'a').write('x')")
        assert backprop("run", "train.py", "--run-id", "before").returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        ran = backprop("run", "train.py")
        assert ran.returncode == 2
        assert "BACKPROP_HOME" in ran.stderr
        assert (backprop.folder / "ran").read_text() == "x"
        assert [row["id"] for row in backprop.runs()] == ["before"]
        assert backprop("status", "before").returncode == 0
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)


def test_a_disk_that_fills_up_ends_nothing_badly(backprop: CommandLine, tmp_path: Path) -> None:
    """When the disk is full under a run, the script still gets to its end and its output is passed on."""
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        backprop.environment["BACKPROP_HOME"] = str(small)
        backprop.home = small
        backprop.script("import sys\nfor i in range(300_000): print('x' * 10)\nprint('end')")
        ran = backprop("run", "train.py", "--run-id", "full")
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.endswith("end\n")
        assert ran.stdout.count("\n") == 300_001
        assert "Traceback" not in ran.stderr
        assert "could not be kept" in ran.stderr or "No space" in ran.stderr
        (small / "runs" / "full" / "attempts" / "1" / "output.log").unlink()
        assert backprop("list").returncode == 0
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
