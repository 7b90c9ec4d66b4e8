"""A person's terminal for tests: a pty of which the command under test is the foreground, and what appears on
it.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from typing import Any

from tests.backprop_cli.commandline import CommandLine, wait_for


class Terminal:
    """`backprop ARGUMENTS` on a terminal of its own. Use as a context manager."""

    def __init__(
        self, backprop: CommandLine, *arguments: str, rows: int = 30, columns: int = 100, **streams: Any
    ) -> None:
        self.master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.modes = termios.tcgetattr(self.slave)
        self.shown = b""
        environment = backprop.environment | {"TERM": "xterm-256color"}
        environment.pop(
            "COLUMNS", None
        )  # pytest's workers set it, and it goes before the terminal's own size
        given = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave} | streams
        self.process = subprocess.Popen(
            [sys.executable, "-m", "backprop_cli", *arguments],
            cwd=backprop.folder,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one thread
            **given,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> bytes:
        """All that has appeared so far."""
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.shown += os.read(self.master, 65_536)
            except OSError:
                break
        return self.shown

    def wait_for(self, words: bytes) -> None:
        wait_for(lambda: words in self.read())

    def finish(self, deadline_s: float = 30.0) -> int:
        """Read until the command has ended; its exit status."""
        end = time.monotonic() + deadline_s
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
            time.sleep(0.01)
        self.read()
        return self.process.wait(timeout=1)
