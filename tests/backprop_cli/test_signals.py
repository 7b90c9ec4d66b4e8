"""Signals to `backprop run`, and what a governor's end or a bad reader does to the script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine, end, gone, number_in, wait_for
from tests.backprop_cli.sessions import STANDIN


def test_ctrl_c_asks_the_script_and_a_second_means_now(backprop: CommandLine) -> None:
    """SIGINT to backprop becomes one request and a signal to the script alone; a second one kills at once."""
    backprop.script(
        """
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: open("asked", "w").write("1"))
        open("pid", "w").write(str(os.getpid()))
        while True: time.sleep(0.05)
        """
    )
    process = backprop.start("run", "train.py", "--run-id", "c")
    try:
        pid = wait_for(lambda: number_in(backprop.folder / "pid"))
        process.send_signal(2)
        wait_for((backprop.folder / "asked").exists)
        assert not gone(pid)
        control = json.loads((backprop.attempt_dir("c") / "control.json").read_text())
        assert [request["action"] for request in control["requests"]] == ["stop"]
        process.send_signal(2)
        process.communicate(timeout=240)
        assert process.returncode == 124
        assert gone(pid)
        assert backprop.record("c")["status"] == "stopped"
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_reaches_an_unaware_script_as_the_interrupt_it_knows(backprop: CommandLine) -> None:
    """A script that catches no SIGTERM gets KeyboardInterrupt, as without backprop."""
    backprop.script(
        """
        import os, time
        open("pid", "w").write(str(os.getpid()))
        try:
            while True: time.sleep(0.05)
        except KeyboardInterrupt:
            print("saving at once")
        """
    )
    process = backprop.start("run", "train.py")
    wait_for(lambda: number_in(backprop.folder / "pid"))
    process.send_signal(2)
    out, _ = process.communicate(timeout=240)
    assert out == "saving at once\n"


LISTENS = """
import os, signal, sys, time
def hear(number, frame):
    print("heard", signal.Signals(number).name, flush=True)
    if {ends}: sys.exit(0)
for name in {names}: signal.signal(signal.Signals[name], hear)
open("pid", "w").write(str(os.getpid()))
while True: time.sleep(0.05)
"""


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGQUIT"])
def test_a_schedulers_warning_means_save_and_end(backprop: CommandLine, name: str) -> None:
    """The script that knows only this signal gets it, has its grace, and the reason names it."""
    backprop.script(LISTENS.format(names=[name], ends=True))
    process = backprop.start("run", "train.py", "--run-id", "w")
    try:
        pid = wait_for(lambda: number_in(backprop.folder / "pid"))
        process.send_signal(signal.Signals[name])
        out, _ = process.communicate(timeout=240)
    finally:
        end(process)
    assert out == f"heard {name}\n"
    assert process.returncode == 124
    assert gone(pid)
    attempt = backprop.record("w")["attempts"][0]
    assert (attempt["outcome"], attempt["reason"]) == ("preempted", f"backprop was sent {name}.")


def test_a_warned_script_that_catches_sigterm_gets_that(backprop: CommandLine) -> None:
    """A handler for SIGTERM saves and ends for sure; one for USR1 may do anything."""
    backprop.script(LISTENS.format(names=["SIGTERM", "SIGUSR1"], ends=True))
    process = backprop.start("run", "train.py")
    try:
        wait_for(lambda: number_in(backprop.folder / "pid"))
        process.send_signal(signal.SIGUSR1)
        out, _ = process.communicate(timeout=240)
    finally:
        end(process)
    assert out == "heard SIGTERM\n"


def test_a_signal_that_is_no_warning_is_the_scripts(backprop: CommandLine) -> None:
    """With --warning-signals USR1, a USR2 goes to the script that listens for it, and nothing ends."""
    backprop.script(LISTENS.format(names=["SIGUSR2"], ends=False))
    process = backprop.start("run", "train.py", "--warning-signals", "sigusr1", "--run-id", "u")
    try:
        wait_for(lambda: number_in(backprop.folder / "pid"))
        process.send_signal(signal.SIGUSR2)
        wait_for(lambda: "USR2" in (backprop.attempt_dir("u") / "output.log").read_text())
        assert process.poll() is None
        process.send_signal(signal.SIGUSR1)
        process.communicate(timeout=240)
        assert backprop.record("u")["attempts"][0]["reason"].startswith("backprop was sent SIGUSR1;")
    finally:
        end(process)


LATE_CTRL_C = """
import os, signal, sys
from backprop_core.runs.store import RunStore
finish = RunStore.finish_attempt
def late(*args, **facts):
    os.kill(os.getpid(), signal.SIGINT)
    return finish(*args, **facts)
RunStore.finish_attempt = late
from backprop_cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_ctrl_c_while_the_end_is_written_down_does_not_lose_it(backprop: CommandLine) -> None:
    """The record has the end, the status is the attempt's, and a chain goes no further."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            LATE_CTRL_C,
            "run",
            "train.py",
            "-m",
            "0.03",
            "--until-done",
            "--run-id",
            "late",
        ],
        cwd=backprop.folder,
        env=backprop.environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 124, ran.stderr
    assert "The chain was ended. Resume: backprop resume late --until-done" in ran.stderr
    assert ran.stderr.count("Resume:") == 1
    (attempt,) = backprop.record("late")["attempts"]
    assert attempt["outcome"] == "timeboxed"


@pytest.mark.parametrize(("number", "status"), [(15, "preempted"), (1, "preempted")])
def test_sigterm_and_sighup_end_the_run_as_preempted(backprop: CommandLine, number: int, status: str) -> None:
    """A scheduler's SIGTERM and a closed terminal are passed on, and said in the record."""
    backprop.script("import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)")
    process = backprop.start("run", "train.py", "--run-id", "p")
    pid = wait_for(lambda: number_in(backprop.folder / "pid"))
    process.send_signal(number)
    process.communicate(timeout=240)
    assert process.returncode == 124
    assert backprop.record("p")["status"] == status
    assert gone(pid)


def test_the_grace_is_kept(backprop: CommandLine) -> None:
    """A script that does not end after being asked is killed when its grace is over, long before the
    deadline.
    """
    backprop.script(
        """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open("pid", "w").write(str(os.getpid()))
        time.sleep(600)
        """
    )
    process = backprop.start("run", "train.py", "--grace", "0.5", "--run-id", "g")
    wait_for(lambda: number_in(backprop.folder / "pid"))
    begun = time.monotonic()
    process.send_signal(15)
    process.communicate(timeout=240)
    assert time.monotonic() - begun > 0.4
    assert backprop.record("g")["attempts"][0]["measured"]["governor"]["unused_s"] > 300  # of ten minutes


def test_a_background_job_of_a_shell_can_still_be_interrupted(backprop: CommandLine) -> None:
    """SIGINT arrives although a non-interactive shell has started backprop with SIGINT ignored."""
    backprop.script("import os, signal\nprint(signal.getsignal(signal.SIGINT) is signal.default_int_handler)")
    command = f"{sys.executable} -m backprop_cli run train.py & wait $!"
    ran = subprocess.run(
        ["sh", "-c", command],
        cwd=backprop.folder,
        env=backprop.environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert ran.stdout == "True\n"


def test_a_governor_killed_with_9_leaves_a_script_that_saves_and_ends(backprop: CommandLine) -> None:
    """The script gets SIGTERM, can still print a lot while it saves, and no process of the run is left."""
    backprop.script(
        """
        import os, signal, sys
        stop = []
        signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
        open("pid", "w").write(str(os.getpid()))
        import time
        while not stop: time.sleep(0.01)
        print("x" * 1_000_000, flush=True)
        open("saved", "w").write("1")
        """
    )
    process = backprop.start("run", "train.py", "--run-id", "orphaned")
    pid = wait_for(lambda: number_in(backprop.folder / "pid"))
    keepers = wait_for(lambda: _keepers(process.pid, pid))
    wait_for(lambda: len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1)
    process.kill()
    wait_for(lambda: gone(pid))
    assert (backprop.folder / "saved").exists()
    wait_for(lambda: all(gone(keeper) for keeper in keepers))
    process.communicate()
    log = backprop.attempt_dir("orphaned") / "output.log"
    assert log.read_bytes().count(b"x") == 1_000_000
    assert backprop.runs()[0]["status"] == "lost"


def test_a_governor_killed_with_9_leaves_no_script_that_refuses(backprop: CommandLine) -> None:
    """A script that ignores SIGTERM is killed by the keeper when the grace is over, with its children."""
    backprop.script(
        """
        import os, signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "600"])
        open("child", "w").write(str(child.pid))
        open("pid", "w").write(str(os.getpid()))
        time.sleep(600)
        """
    )
    process = backprop.start("run", "train.py", "--grace", "0.5")
    pid = wait_for(lambda: number_in(backprop.folder / "pid"))
    child = number_in(backprop.folder / "child") or 0
    wait_for(lambda: len(_children(process.pid)) == 3)
    process.kill()
    process.communicate()
    wait_for(lambda: gone(pid) and gone(child))


REFUSES = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("pid", "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.parametrize("which", [0, 1])
def test_a_keeper_that_is_killed_with_its_governor_has_a_second(backprop: CommandLine, which: int) -> None:
    """Whichever keeper dies beside the governor, the script that ignores SIGTERM is gone when its grace is over."""
    backprop.script(REFUSES)
    process = backprop.start("run", "train.py", "--grace", "0.5")
    try:
        pid = wait_for(lambda: number_in(backprop.folder / "pid"))
        keepers = wait_for(lambda: _keepers(process.pid, pid))
        os.kill(keepers[which], signal.SIGKILL)
        process.kill()
        wait_for(lambda: gone(pid))
        wait_for(lambda: all(map(gone, keepers)))
    finally:
        end(process)


def test_a_keeper_that_dies_is_replaced(backprop: CommandLine) -> None:
    """While the governor lives there are two, and none of them is left behind at the end."""
    backprop.script(REFUSES)
    process = backprop.start("run", "train.py", "--grace", "0.5")
    try:
        pid = wait_for(lambda: number_in(backprop.folder / "pid"))
        keepers = wait_for(lambda: _keepers(process.pid, pid))
        for keeper in keepers:
            os.kill(keeper, signal.SIGKILL)
        others = wait_for(lambda: not set(keepers) & set(found := _keepers(process.pid, pid)) and found)
        process.kill()
        wait_for(lambda: gone(pid))
        wait_for(lambda: all(map(gone, others)))
    finally:
        end(process)


def _keepers(governor: int, script: int) -> list[int]:
    """Both keepers of a governor, the first one first; [] until there are two."""
    found = sorted(child for child in _children(governor) if child != script)
    return found if len(found) == 2 else []


def test_a_reader_that_does_not_read_does_not_hold_up_the_deadline(backprop: CommandLine) -> None:
    """With nobody reading its stdout the governor still ends the script in time."""
    backprop.script("import os\nopen('pid', 'w').write(str(os.getpid()))\nwhile True: print('x' * 1000)")
    process = backprop.start("run", "train.py", "-m", backprop.box(1.8), stderr=subprocess.DEVNULL)
    pid = wait_for(lambda: number_in(backprop.folder / "pid"))
    wait_for(lambda: gone(pid))
    process.communicate(timeout=240)
    assert process.returncode == 124


def test_a_reader_that_leaves_costs_nothing(backprop: CommandLine) -> None:
    """`backprop run | head` lets the script go on to its end, and the log has everything."""
    backprop.script("for i in range(100_000): print('line', i)")
    process = backprop.start("run", "train.py", "--run-id", "head")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=240) == 0
    log = (backprop.attempt_dir("head") / "output.log").read_text()
    assert log.endswith("line 99999\n")


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split() if not gone(int(word))]
