"""Runs a vendor's command-line tool for its answer: bounded in time and size, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
from collections.abc import Sequence

from backprop_core.clock import SYSTEM
from backprop_core.quick_dataclass import dataclass

TIMEOUT_S = 5.0
_KILL_S = 1.0
_LIMIT_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool printed, or why there is nothing: one of the two is not empty."""

    text: str = ""
    trouble: str = ""


def on_path(tool: str) -> bool:
    return shutil.which(tool) is not None


def ask(argv: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> Answer:
    """The standard output of `argv`, if it ends well within `timeout_s` seconds; never raises.

    A tool that hangs is killed with whatever it started; one that even SIGKILL does not end (a driver that
    hangs) is left behind rather than waited for.
    """
    name = argv[0]
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # not a session: a governor takes children in other sessions for its script's orphans
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        return Answer(trouble=f"{name} is not installed.")
    except OSError as error:
        return Answer(trouble=f"{name} could not be started: {error.strerror or error}.")
    output, errors, trouble = _collect(process, timeout_s)
    if trouble:
        _kill(process)
        return Answer(trouble=f"{name} {trouble}.")
    text = output.decode("utf-8", "replace")
    if process.returncode != 0:
        said = (errors.decode("utf-8", "replace").strip() or text.strip()).splitlines()
        word = said[0][:200] if said else "no message"
        return Answer(trouble=f"{name} failed with status {process.returncode}: {word}")
    return Answer(text) if text.strip() else Answer(trouble=f"{name} printed nothing.")


def _collect(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[bytes, bytes, str]:
    """Standard output, standard error, and what went wrong; the process has ended if nothing did."""
    end = SYSTEM.monotonic() + timeout_s
    late = f"did not answer within {timeout_s:g} s"
    parts: dict[int, bytearray] = {}
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            parts[pipe.fileno()] = bytearray()
            selector.register(pipe, selectors.EVENT_READ)
        output, errors = parts.values()
        while selector.get_map():
            for key, _ in selector.select(max(0.0, end - SYSTEM.monotonic())):
                chunk = os.read(key.fd, _CHUNK_BYTES)
                parts[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
                if len(parts[key.fd]) > _LIMIT_BYTES:
                    return b"", b"", "printed too much"
            if SYSTEM.monotonic() >= end:
                return b"", b"", late
    try:
        process.wait(max(0.0, end - SYSTEM.monotonic()))
    except subprocess.TimeoutExpired:
        return b"", b"", late
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return bytes(output), bytes(errors), ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_S)
