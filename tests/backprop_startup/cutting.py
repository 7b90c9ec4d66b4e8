"""Unchanged scripts under the real command: run whole, or stopped after some steps and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.backprop_cli.commandline import CommandLine, end, wait_for

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "unmodified"


def whole(
    command: CommandLine, script: Path, *arguments: str, launcher: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """The script without backprop."""
    return subprocess.run(
        [*(launcher or [sys.executable]), str(script), *arguments],
        cwd=command.folder,
        env=command.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def events(command: CommandLine, run: str, attempt: int = 1) -> list[dict[str, Any]]:
    """What the session inside the script has told so far; nothing where it has none."""
    path = command.attempt_dir(run, attempt) / "events.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def cut(
    command: CommandLine,
    run: str,
    script: Path,
    *arguments: str,
    launcher: Sequence[str] = (),
    when: Callable[[], bool] = lambda: True,
    options: Sequence[str] = (),
) -> None:
    """Start the script under `backprop run`, and stop it from outside once it trains.

    Args:
        launcher: a program and arguments of its own that start the script, such as torchrun.
        when: what has to be true besides.
        options: of `backprop run`.
    """
    words = [str(script), *arguments]
    how = ["--exec", launcher[0], "--", *launcher[1:], *words] if launcher else [words[0], "--", *words[1:]]
    child = command.start("run", "-m", "5", "--run-id", run, *options, *how)
    try:
        wait_for(
            lambda: (
                child.poll() is not None
                or (any(e["kind"] == "progress" for e in events(command, run)) and when())
            ),
            180,
        )
        assert child.poll() is None, child.communicate()
        stopped = command("stop", run, timeout=240)
        assert stopped.returncode == 0, stopped.stderr
        out, err = child.communicate(timeout=240)
        assert child.returncode == 0, out + err
        assert command.record(run)["status"] in ("stopped", "preempted", "timeboxed"), err
    finally:
        end(child)


def resumed(command: CommandLine, run: str) -> subprocess.CompletedProcess[str]:
    """The run from where it was cut to its end."""
    done = command("resume", run, "-m", "5", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert command.record(run)["status"] == "completed", done.stderr
    return done


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The script's last word: a digest of what it has trained."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


def with_environment(command: CommandLine, **values: str) -> CommandLine:
    """`command` with more in its environment."""
    command.environment |= values
    return command


def path_with(*folders: Path) -> str:
    """A PYTHONPATH."""
    return os.pathsep.join(str(folder) for folder in folders)
