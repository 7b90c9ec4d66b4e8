"""What the script prints, on its way to backprop's own stdout and stderr and into output.log.

Nothing here blocks: a reader that does not read (a stopped terminal, a full pipe) must not keep the governor
from the deadline. When too much has piled up for it, the script's pipe is left unread and the script waits,
as it would alone.
"""

from __future__ import annotations

import os
import re
import select
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backprop_core.own_line import beginning_lines

CHUNK = 65_536
PATIENCE = 1 << 20
"""Bytes that may pile up for a slow reader before the script has to wait."""
MOST_IN_A_PIPE = 1 << 20
"""Bytes that a pipe can hold (/proc/sys/fs/pipe-max-size): what is there when its writers have ended."""
_LINE_BYTES = 4_096
_MOVES_UP = re.compile(rb"\x1b(\[[0-9;]*[AFHfs]|[M78])")
"""Bars above one another move between their lines: what stands below is theirs."""
_SAFE_WRITE = 4_096  # PIPE_BUF: what a writable pipe or terminal takes without blocking


class Destination:
    """A file or a terminal where one stream or several are shown.

    Attributes:
        torn: what was shown last does not end with a line feed.
    """

    torn = False


class OutputSink:
    """A file descriptor of backprop's own that the script's output goes to, in order and without blocking."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.gone = False
        self._waiting = bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        try:
            self._always_ready = stat.S_ISREG(os.fstat(fd).st_mode)
        except OSError:
            self._always_ready, self.gone = False, True

    def goes_where(self, fd: int) -> bool:
        """Whether what is written here and to `fd` stands in one file or on one terminal."""
        try:
            return os.path.sameopenfile(self.fd, fd)
        except OSError:
            return False

    @property
    def waiting(self) -> int:
        """Bytes not yet written."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the script has to wait."""
        return self.waiting > PATIENCE

    def push(self, data: bytes) -> None:
        """Queue bytes and write what can be written now."""
        if not self.gone:
            self._waiting += data
            self.flush()

    def flush(self) -> None:
        """Write as much as is possible without blocking."""
        while self._waiting and not self.gone and (self._always_ready or self._writable(0)):
            self._write_once()

    def finish(self, patience_s: float) -> None:
        """Write the rest, waiting for the reader at most `patience_s` at a time."""
        while self._waiting and not self.gone and self._writable(patience_s):
            self._write_once()

    def _write_once(self) -> None:
        size = CHUNK if self._always_ready else _SAFE_WRITE
        try:
            written = os.write(self.fd, self._waiting[:size])
        except BlockingIOError:
            return
        except OSError:  # the terminal was closed, the reader of the pipe left, the disk is full
            self.gone = True
            self._waiting.clear()
            return
        del self._waiting[:written]

    def _writable(self, timeout_s: float) -> bool:
        return bool(self._poll.poll(timeout_s * 1000))


class Log:
    """output.log, appended to; a full disk is counted and never stops the script."""

    def __init__(self, path: Path) -> None:
        self.lost_bytes = 0
        self._torn = False
        self._fd: int | None = None
        with suppress(OSError):
            self._fd = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o600
            )

    def write(self, data: bytes) -> None:
        """Append bytes, or count them as lost. Streams that are shown apart stand beside each other here."""
        data = beginning_lines(data, self._torn)
        if not data:
            return
        self._torn = not data.endswith(b"\n")
        written = 0
        if self._fd is not None:
            with suppress(OSError):
                written = os.write(self._fd, data)
        self.lost_bytes += len(data) - written

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class OutputStream:
    """One source (a pipe's end or a pty's master) that is drained into a sink, a log and perhaps a listener.

    Args:
        fd: read end, owned by the stream from now on.
        sink: where the bytes go.
        place: where they are seen, perhaps among those of another stream.
        log: where they are kept.
        listen: called with every piece, or None.
        before: called with a piece before it is shown (the live panel is erased then).
        after: called when a piece has been shown, with whether it ended a line.
    """

    def __init__(
        self,
        fd: int,
        sink: OutputSink,
        place: Destination,
        log: Log,
        *,
        listen: Callable[[bytes], object] | None = None,
        before: Callable[[bytes], None] = lambda data: None,
        after: Callable[[bool], None] = lambda at_line_start: None,
    ) -> None:
        self.fd = fd
        self.open = True
        self._line = b""
        self.sink = sink
        self._place = place
        self._log = log
        self._listen = listen
        self._before = before
        self._after = after
        os.set_blocking(fd, False)

    @property
    def at_line_start(self) -> bool:
        """Whether the next piece begins a line."""
        return not self._line

    @property
    def in_bar(self) -> bool:
        """Whether it stands in a progress bar of one line: one that goes back to its start and never up."""
        return b"\r" in self._line and _MOVES_UP.search(self._line) is None

    def pump(self) -> bool:
        """Move one piece; False when there is nothing now (or ever again, see `open`)."""
        if not self.open:
            return False
        try:
            data = os.read(self.fd, CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # EIO: the last holder of the pty's other end has closed it
            data = b""
        if not data:
            self.close()
            return False
        self._log.write(data)
        data = beginning_lines(data, self._place.torn)
        if not data:
            return True
        self._place.torn = not data.endswith(b"\n")
        self._before(data)
        last = data.rpartition(b"\n")
        self._line = (last[2] if last[1] else self._line + data)[-_LINE_BYTES:]
        if self._listen is not None:
            self._listen(data)
        self.sink.push(data)
        self._after(self.at_line_start)
        return True

    def drain(self, most_bytes: int = MOST_IN_A_PIPE) -> None:
        """Move what is there now, without waiting for an end that an orphan may keep open, or for a slow reader."""
        moved = 0
        while moved < most_bytes and self.pump():
            moved += CHUNK

    def close(self) -> None:
        """Close the read end."""
        if self.open:
            self.open = False
            os.close(self.fd)
