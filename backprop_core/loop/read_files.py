"""Files that a script reads piece by piece: where it is in them. Those that it writes are the matter of `script_files`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

from backprop_core.script_state.held_values import threads_of_the_script
from backprop_core.script_state.script_classes import is_of_the_script

TYPES: Final[tuple[type, ...]] = (io.TextIOWrapper, io.BufferedReader, io.FileIO)
"""What `open` returns for reading, and `gzip.open` for text."""
PACKED: Final = frozenset({"gzip.GzipFile", "bz2.BZ2File", "lzma.LZMAFile"})


def is_file(value: object) -> bool:
    """Whether it is one, of Python's own types."""
    kind = type(value)
    return kind in TYPES or f"{kind.__module__}.{kind.__qualname__}" in PACKED


def place_in(file: Any) -> list[Any] | None:
    """The file's name and where it is read next, for `go_to`; None where it is not read so.

    It is None for a file that is closed, that is written, or that cannot be wound, such as a pipe or standard input; while a
    loop goes over its lines, which knows how many it has had; and for text that another thread of the script may be reading.
    """
    try:
        name = getattr(file, "name", None) or getattr(getattr(file, "_fp", None), "name", None)
        if file.closed or not isinstance(name, str) or name.startswith("<") or not _is_read(file):
            return None
        if type(file) is io.TextIOWrapper and threads_of_the_script(is_of_the_script):
            return None  # to ask would disturb whoever decodes it
        return [name, file.tell()]
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def go_to(file: Any, place: Any) -> None:
    """Have it read next where another was."""
    if place is not None and not file.closed:
        file.seek(place[1])


def another_file(file: Any, place: Any) -> str:
    """Why it cannot go to that place, as half a sentence, or nothing."""
    if place is None:
        return ""
    name = getattr(file, "name", None)
    same = isinstance(name, str) and Path(name).absolute() == Path(place[0]).absolute()
    return "" if same else f"it was reading {place[0]} and now reads {name}"


def _is_read(file: Any) -> bool:
    return bool(file.readable() and not file.writable() and file.seekable())
