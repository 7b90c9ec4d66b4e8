"""The script's three streams as the governor holds them: what is drained where, and where keys come from."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backprop_core.governor.output import CHUNK, Destination, Log, OutputSink, OutputStream
from backprop_core.governor.spawn import Child, is_terminal
from backprop_core.governor.terminal import KeyForwarder, copy_window_size

READER_PATIENCE_S = 5.0
"""At the end, seconds that a reader of our output may do nothing before the rest is given up (it is in
output.log).
"""


class Streams:
    """All streams between a script and the outside.

    Args:
        child: the started script.
        log: path of output.log.
        listen: called with what it prints on stdout.
        keep: called with what it prints elsewhere.
        before: called with what is about to be shown.
        after: called when something has been shown where our own lines stand, with whether it ended a line.
    """

    def __init__(
        self,
        child: Child,
        log: Path,
        *,
        listen: Callable[[bytes], object],
        keep: Callable[[bytes], object],
        before: Callable[[bytes], None],
        after: Callable[[bool], None],
    ) -> None:
        self.log = Log(log)
        self._master = child.master
        self._terminal = next((fd for fd in (1, 2, 0) if is_terminal(fd)), 0)
        self.keys = KeyForwarder(0) if child.master is not None and is_terminal(0) else None
        self.sources: list[OutputStream] = []
        among_ours = Destination()

        def drained(fd: int | None, sink: OutputSink, heard: Callable[[bytes], object]) -> None:
            if fd is not None:
                place, told = (among_ours, {"after": after}) if sink.goes_where(2) else (Destination(), {})
                self.sources.append(
                    OutputStream(fd, sink, place, self.log, listen=heard, before=before, **told)
                )

        drained(child.out, OutputSink(1), listen)
        drained(child.err, OutputSink(2), keep)
        drained(child.master, OutputSink(self._terminal), listen if child.out is None else keep)

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be shown and every stream stands at the start of a line."""
        return all(stream.at_line_start and not stream.sink.waiting for stream in self.sources)

    @property
    def in_bar(self) -> bool:
        """Whether nothing waits to be shown, and what does not stand at the start of a line stands in a progress bar."""
        return all(
            (stream.at_line_start or stream.in_bar) and not stream.sink.waiting for stream in self.sources
        )

    def waited_for(self) -> list[tuple[int, int]]:
        """Every file descriptor that can make progress now, with what it waits for."""
        found = []
        for stream in self.sources:
            if stream.open and not stream.sink.full:
                found.append((stream.fd, select.POLLIN))
            if stream.sink.waiting:
                found.append((stream.sink.fd, select.POLLOUT))
        if self.keys is not None and self.keys.active:
            found.append((self.keys.fd, select.POLLIN))
        return found

    def ready(self, fd: int) -> None:
        """Something can be done with `fd`: do it."""
        if self.keys is not None and fd == self.keys.fd and self.keys.active:
            self._pass_keys()
        for stream in self.sources:
            if fd == stream.fd:
                stream.pump()
            elif fd == stream.sink.fd:
                stream.sink.flush()

    def drain(self) -> None:
        """Move what is there now."""
        for stream in self.sources:
            stream.drain()

    def finish(self) -> None:
        """Write the rest to whoever reads it, and close everything."""
        for stream in self.sources:
            stream.sink.finish(READER_PATIENCE_S)
            stream.close()
        self.log.close()

    def resize(self) -> None:
        """The real terminal has a new size."""
        if self._master is not None:
            copy_window_size(self._terminal, self._master)

    def enter_keys(self) -> None:
        """Read keys for the script, if we are in the terminal's foreground."""
        if self.keys is not None:
            self.keys.enter()
            self.resize()

    def leave_keys(self) -> None:
        """Give the terminal its modes back."""
        if self.keys is not None:
            self.keys.leave()

    def _pass_keys(self) -> None:
        keys = self.keys
        if keys is None or self._master is None:
            return
        try:
            data = os.read(keys.fd, CHUNK)
        except OSError:
            data = b""
        if not data:  # the terminal is gone
            keys.active = False
            return
        with suppress(OSError):
            os.write(self._master, data)


@contextmanager
def keep_keys(keys: KeyForwarder | None) -> Iterator[None]:
    """Keys go to the script inside this context; the terminal has its modes back after it."""
    if keys is None:
        yield
        return
    keys.enter()
    try:
        yield
    finally:
        keys.leave()
