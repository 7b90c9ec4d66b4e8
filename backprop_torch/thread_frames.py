"""The functions that a thread of the script's is in: what they count themselves cannot be set from outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from backprop_core.script_state.functions import is_script_file
from backprop_core.script_state.liveness import live_names

_PLAIN: Final = (int, float, str, bool)
_COUNTS: Final = frozenset({"enumerate", "count"})


def plain_variables(thread: int) -> dict[tuple[str, str], Any]:
    """Numbers and text in variables that the functions of this thread will read again, by function and name."""
    found: dict[tuple[str, str], Any] = {}
    for frame in _script_frames(thread):
        live = live_names(frame.f_code, frame.f_lasti)
        names = frame.f_locals
        for name in live & names.keys():
            if type(names[name]) in _PLAIN:
                found[frame.f_code.co_qualname, name] = names[name]
        if (
            type(names) is dict and names is not frame.f_globals
        ):  # up to Python 3.12 the frame keeps this copy
            names.clear()
    return found


def counts_in(thread: int, *, passes: int, before: dict[tuple[str, str], Any]) -> str:
    """What the functions of this thread count, as half a sentence, or nothing.

    Args:
        passes: how many passes over loaders it has begun.
        before: its variables when it first handed something over.
    """
    now = plain_variables(thread)
    changed = sorted(
        name for (where, name), value in now.items() if before.get((where, name), value) != value
    )
    if changed:
        return f"its variable `{changed[0]}` changes"
    names = {name for frame in _script_frames(thread) for name in frame.f_code.co_names}
    if names & _COUNTS:
        return "it counts its batches"
    return "it counts its passes" if passes > 1 and "range" in names else ""


def _script_frames(thread: int) -> Iterator[FrameType]:
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if is_script_file(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back
