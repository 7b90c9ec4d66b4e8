"""`backprop run` where there is no terminal: nohup, cron, closed streams, a container's PID 1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.backprop_cli.commandline import CommandLine, gone, number_in, wait_for

WAITS = """
    import os, time
    open("pid", "w").write(str(os.getpid()))
    while not os.path.exists("go"): time.sleep(0.01)
    print("went on", flush=True)
"""


def shell(backprop: CommandLine, line: str) -> subprocess.Popen[str]:
    """A line of sh in the test's folder, in which $BACKPROP is the command."""
    environment = backprop.environment | {"BACKPROP": f"{sys.executable} -m backprop_cli"}
    return subprocess.Popen(
        ["sh", "-c", line],
        cwd=backprop.folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_nohup_survives_a_hang_up(backprop: CommandLine) -> None:
    """Under nohup SIGHUP is ignored by backprop and by the script, as the user asked."""
    backprop.script(WAITS)
    process = shell(backprop, "exec nohup $BACKPROP run train.py --run-id n")
    pid = wait_for(lambda: number_in(backprop.folder / "pid"))
    process.send_signal(signal.SIGHUP)
    subprocess.run(["kill", "-HUP", str(pid)], check=True)
    (backprop.folder / "go").touch()
    out, _ = process.communicate(timeout=240)
    assert (process.returncode, out) == (0, "went on\n")
    assert backprop.record("n")["status"] == "completed"


def test_closed_streams_stay_out_of_the_way(backprop: CommandLine) -> None:
    """With stdin, stdout and stderr closed the script runs, and what it prints is kept."""
    backprop.script("import sys; print('words'); print(sys.stdin.read() if sys.stdin else 'none')")
    process = shell(backprop, "$BACKPROP run train.py --run-id c <&- >&- 2>&-")
    process.communicate(timeout=240)
    assert process.returncode == 0
    assert (backprop.attempt_dir("c") / "output.log").read_text().startswith("words\n")


def test_a_bare_environment_is_enough(backprop: CommandLine) -> None:
    """As in cron: no HOME, no TERM, no user, another folder, stdin from nowhere."""
    script = backprop.script("print('ran')")
    ran = subprocess.run(
        [sys.executable, "-m", "backprop_cli", "run", str(script), "--min-free-ram", "0"],
        cwd="/",
        env={
            "PATH": "/usr/bin:/bin",
            "BACKPROP_HOME": str(backprop.home),
            "BACKPROP_RUNTIME_DIR": backprop.environment["BACKPROP_RUNTIME_DIR"],
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "ran\n"), ran.stderr


def test_as_pid_1_of_a_container_it_reaps_and_ends_in_time(backprop: CommandLine) -> None:
    """In a pid namespace of its own it gets orphans of orphans, leaves none, and heeds the deadline."""
    backprop.script(
        """
        import os, subprocess, time
        subprocess.run(["sh", "-c", "(sh -c 'sleep 600 & sleep 0.1') & exit 0"])
        open("pid", "w").write(str(os.getpid()))
        time.sleep(600)
        """
    )
    process = shell(
        backprop,
        "exec unshare --pid --fork --kill-child --mount-proc $BACKPROP run train.py -m 0.04 --run-id one",
    )
    _, err = process.communicate(timeout=240)
    assert process.returncode == 124, err
    record = backprop.record("one")
    assert record["status"] == "timeboxed"
    assert record["attempts"][0]["measured"]["governor"]["unused_s"] > 0


def test_as_pid_1_it_reaps_orphans_and_heeds_the_sigterm_of_docker_stop(backprop: CommandLine) -> None:
    """No dead orphan stays a zombie while the script runs, and SIGTERM to PID 1 reaches the script and ends all in time."""
    backprop.script(
        """
        import os, pathlib, signal, subprocess, sys, time
        subprocess.run(["sh", "-c", "(sh -c 'sleep 600 & exit 0') & (sh -c 'exit 0' & exit 0) & exit 0"])

        def states():
            for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
                try:
                    yield stat.read_text().rpartition(")")[2].split()[0]
                except OSError:
                    pass

        def stopped(number, frame):
            open("stopped", "w").write(f"{os.getppid()} {'sleep' in subprocess.getoutput('ps -A')}")
            sys.exit(7)

        signal.signal(signal.SIGTERM, stopped)
        while "Z" in states():
            time.sleep(0.05)
        open("ready", "w").write("yes")
        time.sleep(600)
        """
    )
    process = shell(
        backprop,
        "exec unshare --pid --fork --kill-child --mount-proc $BACKPROP run train.py --run-id term --grace 20",
    )
    wait_for((backprop.folder / "ready").exists)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    _, err = process.communicate(timeout=240)
    assert (backprop.folder / "stopped").read_text() == "1 True", err
    assert process.returncode == 124, err
    record = backprop.record("term")
    assert record["status"] == "preempted"
    assert "SIGTERM" in record["attempts"][0]["reason"]


def test_the_script_is_gone_when_its_launching_shell_is(backprop: CommandLine) -> None:
    """SIGTERM to backprop from a scheduler's shell ends the script, and the status tells the shell."""
    backprop.script(WAITS)
    process = shell(backprop, "exec $BACKPROP run train.py --run-id s")
    pid = wait_for(lambda: number_in(backprop.folder / "pid"))
    process.terminate()
    process.communicate(timeout=240)
    assert process.returncode == 124
    assert gone(pid)
