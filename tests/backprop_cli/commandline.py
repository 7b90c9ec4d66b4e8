"""Runs the real `backprop` command in its own process, in a folder and a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEADLINE_S = 240.0
"""For what a test waits for: a crowded machine takes its time, and a test that hangs is noticed all the same."""


class CommandLine:
    """A folder to work in, a `$BACKPROP_HOME`, and the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.home = folder / "home"
        self.folder.mkdir()
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith("BACKPROP_")
        }
        self.environment |= {
            "BACKPROP_HOME": str(self.home),
            "PYTHONUNBUFFERED": "1",
            "PWD": str(self.folder),
        }
        self.environment |= {"BACKPROP_MIN_FREE_RAM": "0", "BACKPROP_MAX_PARALLEL": "64"}
        self.environment |= {"BACKPROP_MAX_LOAD": "1000"}  # a crowded machine is no reason to fail a test
        self._start_s: float | None = None
        self.environment |= {"BACKPROP_RUNTIME_DIR": str(folder / "runtime"), "BACKPROP_GPU_PROBE": "none"}

    def script(self, text: str, name: str = "train.py") -> Path:
        """Write a script into the folder."""
        path = self.folder / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def __call__(
        self, *arguments: str, stdin: str | None = None, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run `backprop ARGUMENTS` to its end."""
        more = {"timeout": DEADLINE_S} | more
        return subprocess.run(
            [sys.executable, "-m", "backprop_cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            input=stdin,
            check=False,
            **more,
        )

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """Start `backprop ARGUMENTS` and return at once."""
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | more
        return subprocess.Popen(
            [sys.executable, "-m", "backprop_cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            **more,
        )

    @property
    def start_s(self) -> float:
        """How long `backprop run` takes for a script that does nothing, here and now: measured once in each test."""
        if self._start_s is None:
            self.script("", "nothing.py")
            home, self.environment["BACKPROP_HOME"] = (
                self.environment["BACKPROP_HOME"],
                f"{self.home}-measured",
            )
            began = time.monotonic()
            assert self("run", "nothing.py").returncode == 0
            self._start_s = time.monotonic() - began
            self.environment["BACKPROP_HOME"] = home
        return self._start_s

    def box(self, seconds: float) -> str:
        """For `-m`: a box in which a script has `seconds`, however long it takes to start."""
        return f"{(seconds + 2 * self.start_s) / 60:.4f}"

    def steps(self, number: int, step_s: float = 0.02) -> int:
        """So many steps, and as many more as fit into the time that `box` adds."""
        return number + int(2 * self.start_s / step_s)

    def runs(self) -> list[dict[str, Any]]:
        """All runs as `backprop list --json` shows them, newest first."""
        shown = self("list", "--json")
        assert shown.returncode == 0, shown.stderr
        rows: list[dict[str, Any]] = json.loads(shown.stdout)
        return rows

    def record(self, run: str) -> dict[str, Any]:
        """The content of a run's run.json."""
        content: dict[str, Any] = json.loads((self.home / "runs" / run / "run.json").read_text())
        return content

    def attempt_dir(self, run: str, number: int = 1) -> Path:
        return self.home / "runs" / run / "attempts" / str(number)


def wait_for(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of `condition`; fails after `deadline_s`."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"did not come true in {deadline_s} s")


def gone(pid: int) -> bool:
    """Whether a process is gone, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return True
    return fields[0] in (b"Z", b"X")


def number_in(path: Path) -> int | None:
    """The number that a script has written into a file, once it has."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> None:
    """End a process that a test started, whatever became of it."""
    if process.poll() is None:
        process.send_signal(number)
    process.communicate()
