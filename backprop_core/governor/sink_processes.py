"""The sinks of a command, each in a process of its own: started, told of attempts, heard, and ended in time.

Nothing here waits while a script runs. A sink that hangs is ended with the command, `PATIENCE_S` after the last script.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from backprop_core.clock import Clock
from backprop_core.events.sinks import split
from backprop_core.governor import kernel
from backprop_core.governor.tree import send
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.record import RunRecord
from backprop_core.strict_json import encode

PATIENCE_S = 20.0
"""Seconds that sinks get to finish when the last script has ended: some import for seconds, or send what they held back."""
SINKS_FOLDER = "sinks"
_LOOK_S = 0.02
_MOST_BYTES = 16_384
"""Of sentences from one sink."""


@dataclass(slots=True)
class _Running:
    """One sink's process: what it is called, and what it has said that was not told yet."""

    name: str
    process: subprocess.Popen[bytes]
    said: bytes = b""
    heard_bytes: int = 0
    lost: bool = False


class SinkProcesses:
    """The sinks of one run, from the first attempt of a command to its end.

    Args:
        sinks: names, with a colon and an argument where there is one.
        run_dir: the run's folder.
        say: takes a sentence for the user.
        patience_s: seconds that they get at the end.
    """

    def __init__(
        self,
        sinks: Sequence[str],
        record: RunRecord,
        run_dir: Path,
        clock: Clock,
        say: Callable[[str], None],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._say = say
        self._run_dir = run_dir
        self._running: list[_Running] = []
        for written in sinks:
            try:
                self._running.append(self._start(written, record))
            except OSError as error:  # no sink is worth a training
                say(f"The sink {split(written)[0]} could not be started: {error.strerror or error}.")

    def begin(self, attempt: int) -> None:
        """An attempt begins; its folder exists."""
        for sink in self._running:
            _write(sink, b"%d\n" % attempt)

    def look(self) -> None:
        """Tell what the sinks have to say. Never waits."""
        for sink in self._running:
            for line in _sentences(sink):
                self._say(line)
            if sink.process.poll() is not None:
                self._tell_lost(sink)

    def _tell_lost(self, sink: _Running) -> None:
        if not sink.lost:
            sink.lost = True
            self._say(f"The process of the sink {sink.name} ended early; {self._where(sink)}.")

    def close(self, *, by: float | None = None) -> None:
        """No more attempts: let the sinks finish, and end those that do not.

        Args:
            by: monotonic instant at which all has to be over, if that is before the usual patience ends.
        """
        self.look()
        end = self._clock.monotonic() + self._patience_s
        end = end if by is None else min(end, by)
        try:
            for sink in self._running:
                with suppress(OSError):
                    _stdin(sink).close()
            while self._clock.monotonic() < end and any(s.process.poll() is None for s in self._running):
                self._clock.sleep(_LOOK_S)
                self._hear()
        finally:
            for sink in self._running:
                self._end(sink)
            self._running = []

    def _start(self, written: str, record: RunRecord) -> _Running:
        name, argument = split(written)
        folder = self._run_dir / SINKS_FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "backprop_sinks"],
            cwd=record.cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is not meant for it; in our own session it is no orphan of the script's
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        sink = _Running(name, process)
        order = {
            "sink": name, "argument": argument, "run_id": record.id, "name": record.name, "command": list(record.command),
            "cwd": record.cwd, "run_dir": str(self._run_dir), "folder": str(folder),
        }  # fmt: skip
        _write(sink, encode(order).encode() + b"\n")
        return sink

    def _hear(self) -> None:
        for sink in self._running:
            for line in _sentences(sink):
                self._say(line)

    def _end(self, sink: _Running) -> None:
        hung = sink.process.poll() is None
        if hung:
            for pid in kernel.descendants(sink.process.pid) or {sink.process.pid}:
                send(pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # a file system that hangs may hold it longer
            sink.process.wait(1.0)
        for line in _sentences(sink):
            self._say(line)
        assert sink.process.stdout is not None
        sink.process.stdout.close()
        if not hung and sink.process.returncode != 0:
            self._tell_lost(sink)
        if hung:
            self._say(f"The sink {sink.name} did not finish in time and was stopped; {self._where(sink)}.")

    def _where(self, sink: _Running) -> str:
        return f"its output is in {self._run_dir / SINKS_FOLDER / sink.name}"


def _stdin(sink: _Running) -> IO[bytes]:
    assert sink.process.stdin is not None
    return sink.process.stdin


def _write(sink: _Running, line: bytes) -> None:
    with suppress(OSError, ValueError):  # it is gone: `look` tells so
        stdin = _stdin(sink)
        stdin.write(line)
        stdin.flush()


def _sentences(sink: _Running) -> list[str]:
    """The whole lines that have come, as long as they are not too many."""
    assert sink.process.stdout is not None
    try:
        data = os.read(sink.process.stdout.fileno(), 65_536)
    except (BlockingIOError, ValueError, OSError):
        return []
    *lines, sink.said = (sink.said + data).split(b"\n")
    sink.heard_bytes += len(data)
    return [] if sink.heard_bytes > _MOST_BYTES else [line.decode("utf-8", "replace") for line in lines]
