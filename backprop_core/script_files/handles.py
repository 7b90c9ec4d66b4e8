"""The script's open files: which descriptors write into a file, and which objects of Python's stand behind them."""

from __future__ import annotations

import fcntl
import gc
import io
import os
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

_LAYERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
_EVENT_WRITERS = ("tensorboard.summary.writer.event_file_writer", "tensorboardX.event_file_writer")
"""Modules whose `EventFileWriter` hands its events to a thread, which appends them to a file."""


class Handles:
    """Finds open files. Looking through the garbage collector is dear, so it is done only where a file is new."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[str, int], weakref.ref[Any] | None]] = {}
        self._writers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._event_files = 0

    def writing_into(self, opens: Mapping[str, int]) -> dict[int, str]:
        """The descriptors that write into one of the files that were opened so often; all that they hold is in the file."""
        found = {fd: path for fd, path in _descriptors() if path in opens and _writes(fd)}
        new = [fd for fd, path in found.items() if not self._knows(fd, (path, opens[path]))]
        if new:
            layers = _outermost_layers(set(new))
            for fd in new:
                layer = layers.get(fd)
                made = None if layer is None else weakref.ref(layer)
                self._known[fd] = ((found[fd], opens[found[fd]]), made)
        for fd in found:
            if (layer := self._layer(fd)) is not None:
                with suppress(OSError, ValueError):
                    layer.flush()
        return found

    def go_to_end(self, fd: int) -> None:
        """Let what is written next follow what the file holds now."""
        layer = self._layer(fd)
        with suppress(OSError, ValueError):
            if layer is None:
                os.lseek(fd, 0, os.SEEK_END)
            else:
                layer.seek(0, os.SEEK_END)

    def flush_event_writers(self, paths: Mapping[str, object]) -> None:
        """Wait until the events that the script has added are in their files."""
        count = sum("tfevents" in os.path.basename(path) for path in paths)
        if not count:
            return
        if count != self._event_files:
            self._event_files = count
            kinds = tuple(
                vars(sys.modules[name])["EventFileWriter"] for name in _EVENT_WRITERS if name in sys.modules
            )
            for one in gc.get_objects() if kinds else ():
                if type(one) in kinds:
                    self._writers.add(one)
        for writer in list(self._writers):
            with suppress(Exception):  # a closed one raises errors of several kinds
                writer.flush()

    def _knows(self, fd: int, key: tuple[str, int]) -> bool:
        known = self._known.get(fd)
        return known is not None and known[0] == key and (known[1] is None or self._layer(fd) is not None)

    def _layer(self, fd: int) -> Any:
        reference = self._known[fd][1] if fd in self._known else None
        layer = None if reference is None else reference()
        return layer if layer is not None and _number(layer) == fd else None


def _descriptors() -> Iterator[tuple[int, str]]:
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            yield int(name), os.readlink(f"/proc/self/fd/{name}")


def _writes(fd: int) -> bool:
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False


def is_at_end(fd: int, length: int) -> bool:
    """Whether what is written into the descriptor next follows what is there, as in a log."""
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        return bool(flags & os.O_APPEND) or os.lseek(fd, 0, os.SEEK_CUR) == length
    except OSError:
        return False


def _outermost_layers(wanted: set[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for one in gc.get_objects():
        kind = type(one)
        if not issubclass(kind, _LAYERS):
            continue
        number = _number(one)
        if number in wanted and (number not in found or issubclass(kind, io.TextIOWrapper)):
            found[number] = one
    return found


def _number(layer: Any) -> int:
    try:
        return int(io.TextIOWrapper.fileno(layer) if isinstance(layer, io.TextIOWrapper) else layer.fileno())
    except (OSError, ValueError, AttributeError):
        return -1
