"""`backprop` through tmux, as a person uses it: progress, Ctrl-Z and fg, Ctrl-C, resume, terminal modes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.backprop_cli.commandline import CommandLine, wait_for
from tests.backprop_cli.sessions import STANDIN


class Shell:
    """A bash in a tmux of its own, with `backprop` as a command."""

    def __init__(self, backprop: CommandLine) -> None:
        self.socket = f"backprop-{os.getpid()}-{id(self)}"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", "bash --norc --noprofile")
        for name in ("BACKPROP_HOME", "BACKPROP_RUNTIME_DIR", "BACKPROP_MIN_FREE_RAM", "BACKPROP_GPU_PROBE"):
            self.type(f"export {name}={shlex.quote(backprop.environment[name])}")
        self.type(
            f"backprop() {{ {sys.executable} -m backprop_cli \"$@\"; }}; cd {backprop.folder}; PS1='$? > '"
        )
        self.type("unset PROMPT_COMMAND; clear")
        self.see("0 >")

    def tmux(self, *arguments: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "TMUX"}
        done = subprocess.run(
            ["tmux", "-L", self.socket, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        return done.stdout

    def type(self, line: str) -> None:
        self.tmux("send-keys", line, "Enter")

    def key(self, name: str) -> None:
        self.tmux("send-keys", name)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-J")

    def see(self, words: str) -> str:
        """The screen, once it shows these words."""
        shown: str = wait_for(lambda: screen if words in (screen := self.screen()) else "")
        return shown

    def close(self) -> None:
        self.tmux("kill-server")


@pytest.fixture
def shell(backprop: CommandLine) -> Iterator[Shell]:
    backprop.script(STANDIN)
    backprop.environment["BACKPROP_MIN_FREE_RAM"] = "0"
    shell = Shell(backprop)
    yield shell
    shell.close()


def modes(shell: Shell) -> str:
    """What the terminal's modes are, as stty says it."""
    shell.type(
        "clear; stty -a | tr ' ' '\\n' | grep -E '^-?(icanon|echo|isig|icrnl|opost);?$' | tr '\\n' ' '; echo e$((1))nd"
    )
    line = next(line for line in shell.see("e1nd").splitlines() if "isig" in line and "grep" not in line)
    shell.type("clear")
    return line


def test_a_person_watches_stops_and_resumes(backprop: CommandLine, shell: Shell) -> None:
    """The live line shows, Ctrl-C saves and tells how to go on, that command goes on, and the prompt is usable."""
    before = modes(shell)
    shell.type("export STANDIN_STEPS=100000; backprop run train.py --run-id me -n mine")
    shell.see("steps/s")
    shell.see("first checkpoint in")
    shell.key("C-c")
    shell.see("Resume: backprop resume me")
    shell.see("0 >")
    step = backprop.record("me")["last_step"]
    shell.type(f"clear; export STANDIN_STEPS={step + 60}; backprop resume me")
    shell.see("completed at step")
    shell.see("argv")
    shell.see("0 >")
    shell.type("clear; backprop list")
    assert "completed" in shell.see(" mine ")  # "completed" alone may still be what stood there before
    assert modes(shell) == before


def test_ctrl_z_puts_both_to_sleep_and_fg_wakes_both(backprop: CommandLine, shell: Shell) -> None:
    """After Ctrl-Z the shell is usable and no step is made; after fg the steps go on and the time box has waited."""
    shell.type("export STANDIN_STEPS=100000; backprop run train.py --run-id z -m 0.15")
    shell.see("steps/s")
    before = modes_while_stopped(shell)
    assert "icanon" in before
    assert "-icanon" not in before
    events = backprop.attempt_dir("z") / "events.jsonl"
    count = events.read_text().count('"progress"')
    shell.type("clear; sleep 2; echo a$((40 + 2))b")
    shell.see("a42b")
    assert events.read_text().count('"progress"') == count
    shell.type("fg")
    wait_for(lambda: events.read_text().count('"progress"') > count)
    shell.see("timeboxed at step")
    governor = backprop.record("z")["attempts"][0]["measured"]["governor"]
    assert governor["used_s"] > 9.0 - 0.7 + 2.0
    assert [pause["why"] for pause in governor["pauses"]] == ["You suspended it (Ctrl-Z)."]
    assert '"action": "extend"' in events.read_text()


def modes_while_stopped(shell: Shell) -> str:
    """Press Ctrl-Z, and the modes that the shell has then."""
    shell.key("C-z")
    shell.see("Stopped")
    return modes(shell)


def test_a_run_in_the_background_goes_on_and_is_stopped_by_its_command(
    backprop: CommandLine, shell: Shell
) -> None:
    """`backprop run &` leaves the keyboard to the shell; `backprop stop` ends it."""
    shell.type("export STANDIN_STEPS=100000; backprop run train.py --run-id bg > /dev/null 2>&1 &")
    events = backprop.attempt_dir("bg") / "events.jsonl"
    wait_for(lambda: events.exists() and '"progress"' in events.read_text())
    shell.type("clear; echo typ$((1 + 1))ed")
    shell.see("typ2ed")
    shell.type("backprop stop bg; wait; echo over$((1 + 1))")
    shell.see("over2")
    assert backprop.record("bg")["status"] == "stopped"


def test_closing_the_window_saves(backprop: CommandLine, shell: Shell) -> None:
    """When tmux kills the window the session still saves, and the record says that the terminal was closed."""
    shell.type("export STANDIN_STEPS=100000; backprop run train.py --run-id w")
    shell.see("steps/s")
    shell.tmux("new-window", "sleep 600")
    shell.tmux("kill-pane", "-t", ":0")
    wait_for(lambda: backprop.record("w")["status"] != "running")
    record = backprop.record("w")
    assert record["status"] == "preempted"
    assert "terminal was closed" in record["attempts"][0]["reason"]
    assert record["last_checkpoint"]
