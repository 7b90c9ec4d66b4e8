"""Our own lines among a script's output: each begins at the start of a line, whatever the script has printed before.

Only who shows the output knows whether the script has ended its line (a progress bar has not). Under a governor that is the
governor, so a line comes to it with a mark in front; on a terminal without one, the terminal itself finds out.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from backprop_core import contract

MARK = b"\x1b_backprop\x1b\\"
"""Stands in front of a line for the governor, which takes it out. A terminal that gets it all the same shows nothing: it is
an "application program command" (ECMA-48, 8.3.2)."""


def print_line(text: str) -> None:
    """Print `backprop: text` on standard error; a closed one is no reason to stop a training."""
    stream = sys.stderr
    try:
        print(f"{_beginning(stream)}backprop: {text}", file=stream, flush=True)
    except (OSError, ValueError, AttributeError):
        return


def identity(fd: int) -> str:
    """What an open pipe or terminal is called in `contract.STDERR`: a script may have put another in its place."""
    status = os.fstat(fd)
    return f"{status.st_dev}:{status.st_ino}"


def beginning_lines(data: bytes, torn: bool) -> bytes:
    """A piece of output without marks; a line of ours that would stand behind a part of the script's begins a new one.

    Args:
        torn: what was shown before does not end with a line feed.
    """
    first, *others = data.split(MARK)
    whole = first
    for part in others:
        unfinished = not whole.endswith(b"\n") if whole else torn
        whole += b"\n" + part if unfinished else part
    return whole


def _beginning(stream: TextIO) -> str:
    """What goes in front of a line: nothing where the script has put something of its own in place of standard error."""
    if stream is None or stream is not sys.__stderr__:
        return ""
    fd = stream.fileno()
    if identity(fd) == os.environ.get(contract.STDERR):
        return MARK.decode("ascii")
    if not os.isatty(fd) or os.environ.get("TERM", "dumb") == "dumb":
        return ""
    # As many blanks as it has columns lead from within a line to the next one, and from the start of a line to its end.
    return " " * os.get_terminal_size(fd).columns + "\r"
