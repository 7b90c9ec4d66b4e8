"""What a program prints, no more of it than asked for, within a time."""

from __future__ import annotations

import os
import selectors
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from backprop_core.clock import Clock
from backprop_core.quick_dataclass import dataclass

_PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Printed:
    """What a program has printed on standard output.

    Attributes:
        data: the beginning of it.
        whole: nothing is missing behind that.
        trouble: why it cannot be used, in a few words; empty where it can.
    """

    data: bytes
    whole: bool = True
    trouble: str = ""


def printed_by(
    argv: Sequence[str],
    cwd: Path,
    environ: Mapping[str, str],
    *,
    most_bytes: int,
    deadline: float,
    clock: Clock,
) -> Printed:
    """Run a program and read what it prints; it is gone when this returns, and never raises.

    Args:
        most_bytes: it is ended when it has printed so much.
        deadline: and at this instant, on the monotonic clock.
    """
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            close_fds=True,
        )
    except (OSError, ValueError) as error:
        return Printed(b"", trouble=f"{argv[0]} could not be started: {error}")
    assert process.stdout is not None
    with process.stdout as pipe:
        data, in_time = _read(pipe.fileno(), most_bytes + 1, deadline, clock)
    if not in_time or len(data) > most_bytes:
        process.kill()
    status = process.wait()
    if not in_time:
        return Printed(b"", trouble=f"{argv[0]} took too long")
    if len(data) > most_bytes:
        return Printed(data[:most_bytes], whole=False)
    return Printed(data) if status == 0 else Printed(b"", trouble=f"{argv[0]} ended with status {status}")


def _read(descriptor: int, most_bytes: int, deadline: float, clock: Clock) -> tuple[bytes, bool]:
    """Up to `most_bytes`, and whether the end, or so much, came in time."""
    data = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while len(data) < most_bytes:
            left_s = deadline - clock.monotonic()
            if left_s <= 0 or not selector.select(left_s):
                return bytes(data), False
            piece = os.read(descriptor, _PIECE_BYTES)
            if not piece:
                break
            data += piece
    return bytes(data[:most_bytes]), True
