"""Remembers, in the run's folder, how long each file was before the run first appended to it."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # this is loaded when a script starts
if TYPE_CHECKING:
    from collections.abc import Mapping


class Journal:
    """How long each file was before the run first appended to it; -1 where it was not there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._noted: set[str] = set()

    def note(self, path: str, before: Mapping[str, int], length: int | None = None) -> None:
        """`path` is about to be appended to, as long as it is now, or of this `length`."""
        if path in before or path in self._noted:
            return
        import json

        self._noted.add(path)
        if length is None:
            length = os.path.getsize(path) if os.path.exists(path) else -1
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        with open(self._path, "a", encoding="ascii") as journal:
            journal.write(json.dumps({"path": path, "length": length}) + "\n")

    def read(self) -> dict[str, int]:
        import json

        found: dict[str, int] = {}
        try:
            with open(self._path, encoding="ascii") as journal:
                lines = journal.read().splitlines()
        except (OSError, ValueError):
            return found
        for line in lines:
            try:
                one = json.loads(line)
                found.setdefault(str(one["path"]), int(one["length"]))
            except (ValueError, KeyError, TypeError):
                continue  # torn by a kill: the file was not opened yet
        return found
