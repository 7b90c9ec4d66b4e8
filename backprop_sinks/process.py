"""The process of one sink: it follows the files of a run, tells the sink what happens, and ends with the command.

Its standard input is the governor's word: first the order, one line of JSON, then a line for each attempt that
begins. Its end means that nothing more comes, also because the governor was killed: what is in the files is told, and
the sink closed. One line on standard output is a sentence for the user. Whatever the sink itself prints is kept in
`output.log` in the sink's folder, the first megabyte of it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from backprop_core.events.kinds import read
from backprop_core.events.sinks import Sink, SinkRun, Told, entry_points
from backprop_core.runs.attempt import EVENTS_FILE, GOVERNOR_FILE, attempt_dir
from backprop_core.runs.events import EventTail
from backprop_core.strict_json import as_instant, as_object, as_text, as_texts, decode

LOOK_EVERY_S = 0.5
OUTPUT_FILE = "output.log"
MOST_OUTPUT_BYTES = 1_000_000
MOST_SAID = 5
"""Sentences on errors; a sink whose server is gone fails at each event."""
LONGEST_SENTENCE = 400
GIVES_UP_AFTER = 100
"""Errors in a row."""
_NICENESS = 10
_SHUT_OFF = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""What a scheduler or a terminal may send to every process: the governor says when it is over."""


class SinkProcess:
    """Tells one sink what happens.

    Args:
        name: of the sink, for sentences.
        make: makes it.
        run_dir: the run's folder.
        say: takes a sentence for the user.
    """

    def __init__(
        self, name: str, make: Callable[[], Sink], run_dir: Path, say: Callable[[str], None]
    ) -> None:
        self._name = name
        self._run_dir = run_dir
        self._say = say
        self._said: set[str] = set()
        self._in_a_row = 0
        self._tails: list[EventTail] = []
        self._attempt = 0
        self._sink: Sink | None = None
        self._unharmed("could not start", lambda: setattr(self, "_sink", make()))

    def begin(self, attempt: int) -> None:
        """An attempt has begun: what is left of the one before is told first."""
        self.look()
        folder = attempt_dir(self._run_dir, attempt)
        self._attempt = attempt
        self._tails = [EventTail(folder / GOVERNOR_FILE), EventTail(folder / EVENTS_FILE)]

    def look(self) -> None:
        """Tell what has been added since the last look, all of it."""
        if self._sink is None or not self._tails:
            return
        governor, session = self._tails
        found = True
        while found:
            ended = []
            found = False
            for tail in (governor, session):
                while lines := tail.poll():
                    found = True
                    last = [line for line in lines if line["kind"] == "attempt_ended"]
                    ended += last  # its session has written all that it has to say before
                    self._tell([line for line in lines if line not in last])
            self._tell(ended)
        self._unharmed("failed", self._sink.flush)

    def close(self) -> None:
        """Nothing more comes."""
        self.look()
        if self._sink is not None:
            self._unharmed("did not end cleanly", self._sink.close)

    def _tell(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            event = read(line)
            sink = self._sink
            if event is None or sink is None:
                continue
            told = Told(event, line, self._attempt, as_instant(line.get("wall")) or 0.0)
            self._unharmed("failed", lambda told=told, sink=sink: sink.take(told))  # type: ignore[misc]

    def _unharmed(self, what: str, part: Callable[[], object]) -> None:
        """Do a part of the sink's; say what is wrong with it, and give it up where nothing of it works."""
        try:
            part()
        except Exception as error:
            self._in_a_row += 1
            text = f"The sink {self._name} {what}: {type(error).__name__}: {error}"[:LONGEST_SENTENCE]
            if type(error).__name__ not in self._said and len(self._said) < MOST_SAID:
                self._said.add(type(error).__name__)
                self._say(text)
            print(text, file=sys.stderr, flush=True)
            if self._in_a_row >= GIVES_UP_AFTER:
                self._sink = None
                self._say(f"The sink {self._name} is disabled: it failed {GIVES_UP_AFTER} times in a row.")
        else:
            self._in_a_row = 0


def main() -> None:
    """Read the order, serve until the input ends, and leave, whatever threads the sink has."""
    for name in _SHUT_OFF:
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    _yield_to_the_training()
    orders = os.fdopen(
        os.dup(0), "rb", buffering=0
    )  # nothing is read ahead: serve() waits for the lines behind the first
    order = as_object(decode(orders.readline() or b"{}"))
    folder = Path(as_text(order.get("folder")) or ".")
    speech = os.dup(1)
    flush_output = keep_output(folder / OUTPUT_FILE)

    def say(text: str) -> None:
        with contextlib.suppress(OSError):  # the governor is gone
            os.write(speech, " ".join(text.split()).encode("utf-8", "replace")[:2000] + b"\n")

    run_dir, sink = Path(as_text(order.get("run_dir")) or "."), as_text(order.get("sink")) or ""
    run = ordered(order, folder)
    process = SinkProcess(sink, lambda: entry_points()[sink].load()(run), run_dir, say)
    serve(process, orders)
    flush_output()
    os._exit(0)


def ordered(order: Mapping[str, Any], folder: Path) -> SinkRun:
    """What the governor says of the run."""
    return SinkRun(
        run_id=as_text(order.get("run_id")) or "",
        name=as_text(order.get("name")),
        command=as_texts(order.get("command")) or (),
        cwd=as_text(order.get("cwd")) or ".",
        folder=folder,
        argument=as_text(order.get("argument")) or "",
    )


def serve(process: SinkProcess, orders: FileIO) -> None:
    """Follow the attempts that are named, until there are no more."""
    descriptor, rest = orders.fileno(), b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], LOOK_EVERY_S)
        if ready:
            data = os.read(descriptor, 4096)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.isdigit():
                    process.begin(int(line))
            if not data:
                process.close()
                return
        process.look()


def keep_output(path: Path) -> Callable[[], None]:
    """Put standard output and error into a file that stays small; returns what waits until all is there.

    A thread empties the pipe, so that a library that prints without end neither fills the disk nor blocks.
    """
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(writing)
    done = threading.Event()

    def empty() -> None:
        left = MOST_OUTPUT_BYTES
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
            left -= file.tell()
            while data := os.read(reading, 65_536):
                if left > 0:
                    file.write(data[:left])
                    left -= len(data)
        with contextlib.suppress(OSError):
            while os.read(reading, 65_536):  # a full disk: still nothing may block
                pass
        done.set()

    threading.Thread(target=empty, name="backprop-sink-output", daemon=True).start()

    def finish() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        done.wait(1.0)  # a process that the sink has left behind may hold the pipe

    return finish


def _yield_to_the_training() -> None:
    """Have the processor last and be the first to go where memory runs out; keep the sink's own children together."""
    from backprop_core.governor.kernel import become_subreaper

    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    become_subreaper()
