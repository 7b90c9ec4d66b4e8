"""Hears of every file that the script opens for writing, replaces or removes, just before that happens.

Python's audit events tell of it, whoever calls: `open`, `pathlib`, `logging`, `csv`, `shutil`, an installed package. Files
that a library opens in C are not heard of.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # this is loaded when a script starts
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from backprop_core.script_files.scope import Scope

_EVENTS = frozenset(
    {"open", "os.rename", "os.remove", "os.truncate", "os.mkdir", "os.link", "os.symlink", "sqlite3.connect"}
)
_MOST_PATHS = 20_000
_SMALL_BYTES = 1 << 26
"""A larger file that is opened to be changed in place, such as a memory map, is not taken for one that will be."""
_listener: OpenedFiles | None = None


class OpenedFiles:
    """What the main process has opened for writing so far.

    Args:
        scope: which files are the script's.
        before_loss: called with a path, before what it holds is lost, and whether it is written over in its place.
        before_making: called with a path that may not be there, before a file is written or a folder made.
        before_append: called with a path before it is opened for appending the first time, and whether it can be copied in
            no time: nobody is told of `file.truncate()`.

    Attributes:
        opens: by path, how often it was opened for writing.
        appended: the paths that were opened for appending.
        databases: the SQLite databases that were connected to. What is written into them goes through C.
        fault: the first thing that went wrong in here.
    """

    def __init__(
        self,
        scope: Scope,
        before_loss: Callable[[str, bool], None],
        before_append: Callable[[str, bool], None],
        before_making: Callable[[str], None] = lambda path: None,
    ) -> None:
        self._scope = scope
        self._before_loss = before_loss
        self._before_append = before_append
        self._before_making = before_making
        self._owner = os.getpid()
        self._inside: set[int] = set()
        self.opens: dict[str, int] = {}
        self.appended: dict[str, None] = {}
        self.databases: dict[str, None] = {}

    def listen(self) -> None:
        """Hear of files from now on; a hook of Python's cannot be taken out again."""
        global _listener
        first, _listener = _listener is None, self
        if first:
            sys.addaudithook(_heard)

    def begun(self, name: str) -> str | None:
        """A file of which nothing was heard is new, and is appended to; its path, or None where it is not the script's."""
        path = _absolute(name)
        if path in self.appended or os.getpid() != self._owner or not self._scope.holds(path):
            return None
        self.appended[path] = None
        self.opens[path] = self.opens.get(path, 0) + 1
        return path

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Inside, what this thread does to files is not the script's."""
        thread = get_ident()
        nested = thread in self._inside
        self._inside.add(thread)
        try:
            yield
        finally:
            if not nested:
                self._inside.discard(thread)

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        """An event of Python's. Never raises: it would end the script's call."""
        thread = get_ident()
        if thread in self._inside or os.getpid() != self._owner:
            return
        self._inside.add(thread)
        try:
            with suppress(Exception):  # kept, it would keep the script's frames, and all that is in them
                self._take(event, args)
        finally:
            self._inside.discard(thread)

    def _take(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            self._opens(args[0], args[2])
        elif event == "os.rename":
            self._renames(*args)
        elif event == "os.remove":
            self._loses(_absolute(args[0], args[1]), in_place=False)
        elif event == "sqlite3.connect":
            self._connects(args[0])
        elif event == "os.truncate":
            self._loses(_path_of(args[0]), in_place=True)
        elif event == "os.mkdir":
            self._makes(_absolute(args[0], args[2]))
            self._scope.add(_absolute(args[0], args[2]))
        else:
            self._makes(_absolute(args[1], args[3] if event == "os.link" else args[2]))

    def _opens(self, name: Any, flags: int) -> None:
        path = _absolute(name)
        if len(self.opens) > _MOST_PATHS or not self._scope.holds(path):
            return
        if flags & os.O_TRUNC or (not flags & os.O_APPEND and _is_small(path)):
            self._before_loss(path, True)
        if flags & os.O_APPEND and path not in self.appended:
            self._before_append(path, _is_small(path))
            self.appended[path] = None
        self._before_making(path)
        self.opens[path] = self.opens.get(path, 0) + 1

    def _makes(self, path: str) -> None:
        if self._scope.holds(path):
            self._before_making(path)

    def _connects(self, name: Any) -> None:
        if (
            name
            and not os.fsdecode(name).startswith((":memory:", "file:"))
            and self._scope.holds(_absolute(name))
        ):
            self.databases[_absolute(name)] = None

    def _renames(self, source: Any, target: Any, source_folder: int, target_folder: int) -> None:
        for name, folder in ((source, source_folder), (target, target_folder)):
            self._loses(_absolute(name, folder), in_place=False)
        self._makes(_absolute(target, target_folder))

    def _loses(self, path: str, *, in_place: bool) -> None:
        if self._scope.holds(path):
            self._before_loss(path, in_place)


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if event not in _EVENTS or _listener is None:
        return
    if event == "open" and (
        type(args[2]) is not int or not args[2] & (os.O_WRONLY | os.O_RDWR) or type(args[0]) is int
    ):
        return
    _listener.heard(event, args)


def _is_small(path: str) -> bool:
    """Whether there is something to lose that can be copied in no time."""
    return os.path.isfile(path) and os.path.getsize(path) <= _SMALL_BYTES


def _path_of(file: Any) -> str:
    """Where a file lies that is named by a path or, as `os.ftruncate` does, by an open descriptor."""
    return _absolute(f"/proc/self/fd/{file}" if type(file) is int else file)


def _absolute(name: Any, folder: int = -1) -> str:
    """Where `name` lies, without links.

    Raises:
        TypeError: it is no path, but a descriptor.
    """
    path = os.fsdecode(name)
    if folder is not None and folder >= 0 and not os.path.isabs(path):
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    return os.path.realpath(path)
