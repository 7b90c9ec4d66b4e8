"""Runs a vendor's command-line tool for its answer: bounded in time and size, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUT_S = 5.0
_KILL_S = 1.0
_LIMIT_CHARACTERS = 4 * 1024 * 1024


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
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        return Answer(trouble=f"{name} is not installed.")
    except OSError as error:
        return Answer(trouble=f"{name} could not be started: {error.strerror or error}.")
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        return Answer(trouble=f"{name} did not answer within {timeout_s:g} s.")
    text = output[:_LIMIT_CHARACTERS].decode("utf-8", "replace")
    if process.returncode != 0:
        said = (errors.decode("utf-8", "replace").strip() or text.strip()).splitlines()
        return Answer(
            trouble=f"{name} failed with status {process.returncode}: {said[0][:200] if said else 'no word'}"
        )
    return Answer(text) if text.strip() else Answer(trouble=f"{name} printed nothing.")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_S)
