"""How a training process hands memory to the governor: one message over a socket in the attempt's folder.

A socket rather than a descriptor that is inherited: the training may be a grandchild, behind a shell or torchrun, that
closed what it did not know, and there may be several. Whoever can open the folder can connect, so nothing that comes is
trusted; the kernel says which process it is.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import as_object, as_place, as_text, as_whole, decode, encode

SOCKET_FILE: Final = "survivor.sock"
PATIENCE_S: Final = 120.0
"""Seconds that the training waits for the governor, which may be committing what a process before it has left."""
_LONGEST: Final = 16_384
_KEPT: Final = b"kept"


@dataclass(frozen=True, slots=True)
class MemoryOwner:
    """Whose memory it is.

    Attributes:
        run_id, attempt: which run, and which of its process lives.
        checkpoints: where its checkpoints lie.
        group, rank: of processes that train together, the same name for all, and which one this is.
    """

    run_id: str
    attempt: int
    checkpoints: str
    group: str = ""
    rank: int = 0


def hand_over(directory: Path, fd: int, owner: MemoryOwner) -> socket.socket | None:
    """Give the governor of the attempt in `directory` this memory to hold; the line to it, or None if nobody takes it.

    Returns when what an earlier process of the attempt may have left is committed.
    """
    if not hasattr(socket, "SOCK_SEQPACKET") or not hasattr(socket, "AF_UNIX"):
        return None
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short_path(directory) as path:
            line.connect(path)
        line.settimeout(PATIENCE_S)
        told: dict[str, object] = {
            "run": owner.run_id,
            "attempt": owner.attempt,
            "checkpoints": owner.checkpoints,
        }
        told |= {"group": owner.group, "rank": owner.rank} if owner.group else {}
        socket.send_fds(line, [encode(told).encode()], [fd])
        if line.recv(len(_KEPT)) == _KEPT:
            return line
    except OSError:
        pass
    line.close()
    return None


class Counter:
    """Where the governor takes what is handed over.

    Raises:
        OSError: there can be no socket in this folder.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / SOCKET_FILE
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._path.unlink(missing_ok=True)
            with _short_path(directory) as path:
                self._socket.bind(path)
            self._socket.listen(16)
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    @property
    def fd(self) -> int:
        """Readable when somebody has come."""
        return self._socket.fileno()

    def accept(self) -> socket.socket | None:
        """Who has come."""
        try:
            line = self._socket.accept()[0]
        except OSError:
            return None
        line.setblocking(False)
        return line

    def close(self) -> None:
        """Take nothing more."""
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


def taken(line: socket.socket) -> tuple[int, MemoryOwner] | None:
    """The memory that somebody hands over, and whose it is; None for what makes no sense. Called when `line` is readable.

    Raises:
        OSError: the other end is gone.
    """
    data, fds, _, _ = socket.recv_fds(line, _LONGEST, 4)
    if not data and not fds:
        raise ConnectionResetError("the other end is closed")
    try:
        told = as_object(decode(data))
    except ValueError:
        told = {}
    run_id, attempt = as_text(told.get("run")), as_whole(told.get("attempt"), least=1)
    place = as_place(told.get("checkpoints"))
    group, rank = as_text(told.get("group")) or "", as_whole(told.get("rank"), least=0) or 0
    if len(fds) == 1 and run_id and attempt is not None and place is not None:
        return fds[0], MemoryOwner(run_id, attempt, place, group, rank)
    for fd in fds:
        os.close(fd)
    return None


def confirm(line: socket.socket) -> None:
    """Tell the other end that its memory is held."""
    with contextlib.suppress(OSError):
        line.send(_KEPT)


def peer_pid(line: socket.socket) -> int | None:
    """The process at the other end, as the kernel tells."""
    try:
        credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    pid: int = struct.unpack("3i", credentials)[0]
    return pid or None


@contextlib.contextmanager
def _short_path(directory: Path) -> Iterator[str]:
    """The socket's path; the address of one has room for 107 bytes, and a home may lie deep."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET_FILE}"
    finally:
        os.close(fd)
