"""`backprop run` on a terminal: what a person sees and types."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import termios

import pytest

from tests.backprop_cli.commandline import CommandLine, wait_for
from tests.backprop_cli.sessions import STANDIN
from tests.backprop_cli.terminals import Terminal


def test_the_script_stands_on_a_terminal_of_the_same_size(backprop: CommandLine) -> None:
    """All three streams are terminals with the real one's size; colours arrive, the log has no carriage
    returns.
    """
    backprop.script(
        """
        import os, sys
        print([os.isatty(fd) for fd in range(3)], os.get_terminal_size(), os.ttyname(0) == os.ttyname(1))
        print("\\x1b[32mgreen\\x1b[0m")
        """
    )
    with Terminal(backprop, "run", "train.py", "--run-id", "t", rows=33, columns=77) as terminal:
        assert terminal.finish() == 0
        assert b"[True, True, True] os.terminal_size(columns=77, lines=33) True\r\n" in terminal.shown
        assert b"\x1b[32mgreen\x1b[0m\r\n" in terminal.shown
        assert termios.tcgetattr(terminal.slave) == terminal.modes
    log = (backprop.attempt_dir("t") / "output.log").read_bytes()
    assert log.endswith(b"\x1b[32mgreen\x1b[0m\n")
    assert b"\r" not in log


def test_a_new_window_size_reaches_the_script(backprop: CommandLine) -> None:
    """Resizing the real terminal resizes the script's, with its signal."""
    backprop.script(
        """
        import os, signal, time
        signal.signal(signal.SIGWINCH, lambda *_: print("now", os.get_terminal_size().columns, flush=True))
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    with Terminal(backprop, "run", "train.py") as terminal:
        terminal.wait_for(b"ready")
        terminal.resize(20, 55)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.wait_for(b"now 55")


def test_what_is_typed_reaches_the_script_and_is_shown_once(backprop: CommandLine) -> None:
    """input() works with its echo, a password is not shown, and the terminal has its modes back."""
    backprop.script(
        """
        import getpass
        name = input("name? ")
        word = getpass.getpass("password? ")
        print(f"<{name}|{word}>")
        """
    )
    with Terminal(backprop, "run", "train.py") as terminal:
        terminal.wait_for(b"name? ")
        terminal.type(b"Idaa\x7f\r")
        terminal.wait_for(b"password? ")
        terminal.type(b"secret\r")
        assert terminal.finish() == 0
        assert b"<Ida|secret>" in terminal.shown
        assert terminal.shown.count(b"secret") == 1
        assert terminal.shown.count(b"Idaa") == 1
        assert termios.tcgetattr(terminal.slave) == terminal.modes


def test_the_live_panel_comes_and_goes(backprop: CommandLine) -> None:
    """Time left, step, rate and loss stand in lines that fit, and are erased before the script's next output."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "120"
    with Terminal(backprop, "run", "train.py", columns=60) as terminal:
        terminal.wait_for(b"loss")
        assert terminal.finish() == 0
        panels = [part for part in terminal.shown.split(b"\r\x1b[K") if b" left | " in part]
        assert panels
        lines = [line.rstrip(b"\r") for panel in panels for line in panel.split(b"\n")]
        assert [line for line in lines if len(line) >= 60] == []
        assert b"loss" in panels[-1]
        assert b"\r\x1b[Kargv" in terminal.shown


def test_ctrl_c_on_the_keyboard_stops_with_a_checkpoint(backprop: CommandLine) -> None:
    """The key reaches backprop alone; the session saves, the status is 0 and the modes are restored."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    with Terminal(backprop, "run", "train.py", "--run-id", "c") as terminal:
        terminal.wait_for(b"step ")
        terminal.type(b"\x03")
        assert terminal.finish() == 0
        assert b"backprop resume c" in terminal.shown
        assert termios.tcgetattr(terminal.slave) == terminal.modes
    assert backprop.record("c")["status"] == "stopped"


def test_a_closed_terminal_ends_the_run_with_a_checkpoint(backprop: CommandLine) -> None:
    """When the window is closed the session still saves, though nobody can be told any more."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    with Terminal(backprop, "run", "train.py", "--run-id", "h") as terminal:
        terminal.wait_for(b"step ")
        os.close(terminal.master)
        os.close(terminal.slave)
        terminal.master = terminal.slave = -1
        terminal.process.wait(timeout=240)
    record = backprop.record("h")
    assert record["status"] == "preempted"
    assert record["last_checkpoint"]


def test_stdin_may_be_a_terminal_alone(backprop: CommandLine) -> None:
    """With stdout and stderr in pipes the script still reads the keyboard."""
    backprop.script("import sys; print(sys.stdin.isatty(), sys.stdout.isatty(), input())")
    pipe = subprocess.PIPE
    with Terminal(backprop, "run", "train.py", stdout=pipe, stderr=pipe) as terminal:
        assert terminal.process.stdout is not None
        terminal.type(b"words\r")
        out, _ = terminal.process.communicate(timeout=240)
        assert out == b"True False words\n"


def test_stdout_in_a_file_leaves_the_terminal_to_the_progress(backprop: CommandLine) -> None:
    """`backprop run > file` keeps the script's stdout clean, and the live line on the terminal."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "120"
    path = backprop.folder / "out"
    with path.open("wb") as out, Terminal(backprop, "run", "train.py", stdout=out) as terminal:
        assert terminal.finish() == 0
        assert b"loss" in terminal.shown
    assert path.read_bytes() == b"argv\n"


def test_a_terminal_killed_governor_does_not_hang_up_the_script(backprop: CommandLine) -> None:
    """kill -9 of backprop on a terminal: the script is not killed by SIGHUP and saves."""
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    with Terminal(backprop, "run", "train.py", "--run-id", "k") as terminal:
        terminal.wait_for(b"step ")
        terminal.process.kill()
        terminal.process.wait()
        events = backprop.attempt_dir("k") / "events.jsonl"
        wait_for(lambda: "session_finished" in events.read_text())
    assert backprop.runs()[0]["last_checkpoint"]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_table_fits_the_terminal_and_never_cuts_an_id(backprop: CommandLine, columns: int) -> None:
    """A narrow terminal is shown fewer columns, and what is shown of a run's id can be typed again."""
    backprop.script("")
    backprop("run", "train.py", "--name", "a rather long name for an experiment")
    (row,) = backprop.runs()
    for command, words in (
        ("list", row["id"]),
        ("config", "timeboxed-exit-code"),
        ("status", "a run may start"),
    ):
        with Terminal(backprop, command, columns=columns) as terminal:
            assert terminal.finish() == 0
            lines = [re.sub(rb"\x1b\[[0-9;]*m", b"", line).decode() for line in terminal.read().splitlines()]
        assert any(words in line for line in lines), (command, lines)
        assert max(len(line.rstrip()) for line in lines) <= columns, command


def test_no_color_is_obeyed(backprop: CommandLine) -> None:
    """With NO_COLOR a table on a terminal has none, and without it the status is coloured."""
    backprop.script("")
    backprop("run", "train.py")
    for name, coloured in ((None, True), ("NO_COLOR", False)):
        backprop.environment |= {} if name is None else {name: "1"}
        with Terminal(backprop, "list") as terminal:
            assert terminal.finish() == 0
            assert (b"\x1b[32m" in terminal.read()) == coloured
