"""A line of ours begins a line, whatever the script has printed before it."""

from __future__ import annotations

import os
import subprocess
import sys

import pyte
import pytest

from backprop_core.own_line import MARK, beginning_lines, identity
from tests.backprop_cli.commandline import CommandLine, number_in, wait_for
from tests.backprop_cli.terminals import Terminal

BAR = """
import os, sys, time
import numpy as np
w = np.zeros(3)
for i in range(10_000):
    w += np.random.default_rng(i).normal(size=3)
    print({form}, end="", file=sys.{stream}, flush=True)
    open("step", "w").write(str(i))
    time.sleep(0.02)
"""
BARS = {"bar": 'f"\\r{i:5d} of it"', "dots": '"."'}


def begins_lines(shown: str) -> bool:
    """Whether there are lines of ours, and all begin a line."""
    ours = shown.split("backprop: ")[:-1]
    return bool(ours) and all(before.endswith("\n") for before in ours[1:])


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("form", BARS)
def test_nothing_of_ours_stands_behind_a_line_that_a_script_has_not_ended(
    backprop: CommandLine, form: str, stream: str
) -> None:
    """With both streams in one pipe, the session's lines and the last one begin lines, and nobody sees a mark."""
    backprop.script(BAR.format(form=BARS[form], stream=stream))
    ran = backprop.start("run", "train.py", "-m", backprop.box(4), "--run-id", "r", stderr=subprocess.STDOUT)
    shown, _ = ran.communicate(timeout=120)
    assert ran.returncode == 0, shown
    assert begins_lines(shown)
    assert "attached to a loop" in shown
    assert "\x1b" not in shown
    log = (backprop.attempt_dir("r") / "output.log").read_text()
    assert begins_lines(log)
    assert "\x1b" not in log


def test_on_a_terminal_a_progress_bar_and_our_lines_stand_apart(backprop: CommandLine) -> None:
    """What a person sees: each line of ours at the left edge, the bar in a line of its own."""
    backprop.script(BAR.format(form=BARS["bar"], stream="stderr"))
    screen = pyte.Screen(160, 60)
    with Terminal(backprop, "run", "train.py", "-m", backprop.box(4), rows=60, columns=160) as terminal:
        assert terminal.finish() == 0
        pyte.ByteStream(screen).feed(terminal.shown)
        assert MARK not in terminal.shown
    ours = [line for line in screen.display if "backprop: " in line]
    assert len(ours) >= 3
    assert all(line.startswith("backprop: ") for line in ours), ours


def test_a_killed_governor_leaves_no_mark_in_the_log(backprop: CommandLine) -> None:
    """The keeper takes marks out as well."""
    backprop.script(BAR.format(form=BARS["dots"], stream="stdout"))
    ran = backprop.start("run", "train.py", "-m", "5", "--run-id", "r", "--grace", "20")
    wait_for(lambda: (number_in(backprop.folder / "step") or 0) > 100)
    log = backprop.attempt_dir("r") / "output.log"
    ran.kill()
    wait_for(lambda: b"SIGTERM" in log.read_bytes())
    ran.communicate()
    assert begins_lines(log.read_text())
    assert MARK not in log.read_bytes()


def test_without_the_command_a_terminal_shows_our_lines_apart(backprop: CommandLine) -> None:
    """A time box in a script that is started with python, in the middle of a line and at the start of one."""
    backprop.script(
        """
        import backprop
        print("at a start")
        with backprop.timebox("1m", run="r") as box:
            print("in the middle", end="", flush=True)
        print(box.outcome)
        """
    )
    screen = pyte.Screen(100, 30)
    with Terminal(backprop, "list") as terminal:
        terminal.finish()
        ran = subprocess.Popen(
            [sys.executable, "train.py"],
            cwd=backprop.folder,
            env=backprop.environment | {"TERM": "xterm"},
            stdin=terminal.slave,
            stdout=terminal.slave,
            stderr=terminal.slave,
        )
        assert ran.wait(timeout=120) == 0
        pyte.ByteStream(screen).feed(terminal.read())
    lines = [line.rstrip() for line in screen.display if line.strip()]
    assert sum(line.startswith("backprop: ") for line in lines) >= 1
    assert all(line.startswith("backprop: ") for line in lines if "backprop: " in line)
    after = lines[lines.index("at a start") + 1]
    assert after.startswith("backprop: run r"), "no empty line where none is needed"


@pytest.mark.parametrize(
    ("data", "torn", "shown"),
    [
        (b"no mark", True, b"no mark"),
        (MARK + b"ours\n", False, b"ours\n"),
        (MARK + b"ours\n", True, b"\nours\n"),
        (b"theirs" + MARK + b"ours\n", False, b"theirs\nours\n"),
        (b"theirs\n" + MARK + b"ours\n" + MARK + b"ours\n", True, b"theirs\nours\nours\n"),
        (MARK, True, b"\n"),
    ],
)
def test_a_mark_becomes_a_line_feed_where_one_is_needed(data: bytes, torn: bool, shown: bytes) -> None:
    """A piece of output, without marks."""
    assert beginning_lines(data, torn) == shown


def test_a_stream_that_a_script_has_put_in_place_of_ours_gets_no_mark(backprop: CommandLine) -> None:
    """A file behind descriptor 2, and an object in place of sys.stderr: what is in them is read by others than us."""
    backprop.script(
        """
        import io, os, sys
        from backprop_core.own_line import print_line
        kept, sys.stderr = sys.stderr, io.StringIO()
        print_line("one")
        inside, sys.stderr = sys.stderr.getvalue(), kept
        os.dup2(os.open("err", os.O_WRONLY | os.O_CREAT), 2)
        print_line("two")
        assert inside == "backprop: one\\n", inside
        """
    )
    ran = backprop("run", "train.py")
    assert ran.returncode == 0, ran.stderr
    assert (backprop.folder / "err").read_text() == "backprop: two\n"


def test_a_pipe_has_an_identity_of_its_own() -> None:
    """Two pipes differ, and both ends of one are the same."""
    one, two = os.pipe(), os.pipe()
    try:
        assert identity(one[0]) == identity(one[1]) != identity(two[0])
    finally:
        for fd in (*one, *two):
            os.close(fd)
