"""Keeps what a script writes over on its way back to the place of a checkpoint: its log, opened with "w" at its top, say.

It lies in the run's folder until training goes on. If the process dies before that, the next one puts it back first.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # this is loaded when a script starts
if TYPE_CHECKING:
    from typing import Any

_INDEX = "index.jsonl"
_ENDING = 64
"""So many bytes before the end are remembered, to recognise a file."""


class SetAside:
    """Files as they were when the attempt began, by path.

    Args:
        folder: where copies are kept, made when the first is.

    Attributes:
        kept: the copy of each file that is about to be written over.
        lost: paths of which no copy could be made, and why.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._seen: set[str] = set()
        self._may_grow: set[str] = set()
        self.kept: dict[str, str] = {}
        self.lost: dict[str, str] = {}

    def keep(self, path: str, *, in_place: bool, may_grow: bool = False) -> None:
        """What `path` holds is about to be lost; only the first time counts.

        Args:
            in_place: it is written over; otherwise another file takes its place, or none.
            may_grow: it is opened for appending, and may still be emptied through the open file.
        """
        if path in self._seen:
            if not may_grow:
                self._may_grow.discard(path)
            return
        self._seen.add(path)
        if may_grow:
            self._may_grow.add(path)
        if not os.path.isfile(path):
            return
        target = os.path.join(self._folder, f"{len(self.kept)}-{os.path.basename(path)[-100:]}")
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            _copy(path, target, may_link=not in_place)
            self._note(path, target)
        except OSError as error:
            self.lost[path] = error.strerror or str(error)
            return
        self.kept[path] = target

    def _note(self, path: str, target: str) -> None:
        import json

        with open(os.path.join(self._folder, _INDEX), "a", encoding="ascii") as index:
            index.write(json.dumps({"path": path, "copy": os.path.basename(target)}) + "\n")

    def forget_grown(self) -> None:
        """A file that was appended to, and not emptied, still holds what its copy does."""
        for path in self._may_grow & self.kept.keys():
            copy = self.kept[path]
            length = os.path.getsize(copy)
            try:
                with open(copy, "rb") as before, open(path, "rb") as now:
                    if ending_of(before, length) == ending_of(now, length):
                        del self.kept[path]
            except FileNotFoundError:
                continue  # removed since then

    def put_back_leftovers(self) -> None:
        """An earlier attempt died on its way: its files are as they were before it."""
        for path, copy in self._leftovers():
            put_back(copy, path)
        self.drop()

    def _leftovers(self) -> list[tuple[str, str]]:
        import json

        try:
            with open(os.path.join(self._folder, _INDEX), encoding="ascii") as index:
                lines = index.read().splitlines()
        except (OSError, ValueError):
            return []
        found: list[tuple[str, str]] = []
        for line in lines:
            try:
                one: Any = json.loads(line)
                copy = os.path.join(self._folder, os.path.basename(str(one["copy"])))
                if os.path.isfile(copy) and os.path.isabs(one["path"]):
                    found.append((one["path"], copy))
            except (ValueError, KeyError, TypeError):
                continue  # a torn last line: its file was not written over yet
        return found

    def put_all_back(self) -> None:
        """Training does not go on: every file is as it was when the attempt began."""
        for path, copy in self.kept.items():
            put_back(copy, path)
        self.drop()

    def drop(self) -> None:
        """The copies are not needed any more."""
        self.kept.clear()
        if not os.path.isdir(self._folder):
            return
        import shutil

        shutil.rmtree(self._folder, ignore_errors=True)


def ending_of(file: Any, length: int) -> str:
    """The last bytes of the first `length` of an open file; of a shorter file, less."""
    start = max(0, length - _ENDING)
    file.seek(start)
    return str(file.read(length - start).hex())


def put_back(copy: str, path: str, length: int | None = None) -> None:
    """Let `path` hold what `copy` does, its first `length` bytes; the file stays the one that it is for who has it open.

    Raises:
        OSError: it could not be written.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(copy, "rb") as source, open(path, "r+b" if os.path.exists(path) else "wb") as target:
        rest = os.fstat(source.fileno()).st_size if length is None else length
        while rest > 0 and (block := source.read(min(rest, 1 << 20))):
            target.write(block)
            rest -= len(block)
        target.truncate()


def _copy(path: str, target: str, *, may_link: bool) -> None:
    if may_link:
        try:
            os.link(path, target)
            return
        except OSError:
            pass  # another file system
    import shutil

    shutil.copyfile(path, target)
    shutil.copymode(path, target)
