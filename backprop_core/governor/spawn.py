"""Starts the script: its own session, streams that are as without backprop, and a death signal.

Each of stdin, stdout and stderr that is a terminal becomes a pty for the script, so that progress bars and
colours survive; one that is not is handed through (stdin) or drained through a pipe (stdout, stderr).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

from backprop_core import contract
from backprop_core.errors import UsageError
from backprop_core.governor import kernel, terminal
from backprop_core.own_line import identity
from backprop_core.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Child:
    """A started script.

    Args:
        process: its handle; the pid is also its session's and process group's id.
        master: the pty's master, or None without a terminal.
        out, err: read ends for what it prints; `err` is None where a pty carries both.
    """

    process: subprocess.Popen[bytes]
    master: int | None
    out: int | None
    err: int | None

    @property
    def pid(self) -> int:
        return self.process.pid


def is_terminal(fd: int) -> bool:
    """Whether a file descriptor is an open terminal."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def spawn(argv: Sequence[str], *, cwd: str, env: Mapping[str, str]) -> Child:
    """Start a script. Call it from the main thread: the death signal belongs to the thread that starts.

    Raises:
        UsageError: the program or the folder does not exist or cannot be executed.
    """
    terminals = [is_terminal(fd) for fd in range(3)]
    master: int | None = None
    slave: int | None = None
    if any(terminals):
        master, slave = terminal.open_pty(terminals.index(True))
    reading: dict[int, int] = {}
    writing = {fd: slave for fd in range(3) if slave is not None and terminals[fd]}
    for fd in (1, 2):
        if not terminals[fd]:
            reading[fd], writing[fd] = os.pipe()
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env={**env, contract.STDERR: identity(writing[2])},
            stdin=writing.get(0),
            stdout=writing[1],
            stderr=writing[2],
            start_new_session=True,
            preexec_fn=_before_exec(slave),  # noqa: PLW1509 - it takes no lock
        )
    except OSError as error:
        for ours in (master, *reading.values()):
            if ours is not None:
                os.close(ours)
        raise UsageError(
            f"{argv[0]} could not be started in {cwd}: {error.strerror or error}.",
            "Check --python, the script and the folder.",
        ) from error
    finally:
        for fd in set(writing.values()):
            os.close(fd)
    return Child(process, master, reading.get(1), reading.get(2))


def _before_exec(slave: int | None) -> Callable[[], None]:
    set_death_signal = kernel.death_signal_setter()

    def prepare() -> None:
        set_death_signal()
        # A job in the background of a script inherits SIGINT ignored, and a mask may be inherited too.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if slave is not None:
            for fd in range(3):
                if os.isatty(fd):
                    terminal.make_controlling(fd)
                    break

    return prepare
