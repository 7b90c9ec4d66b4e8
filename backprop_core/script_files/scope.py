"""Which files may be touched on a resume: below the working directory, beside the script, or in folders that it has made."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # this is loaded when a script starts
if TYPE_CHECKING:
    from collections.abc import Iterable

_NEVER = frozenset({"site-packages", "dist-packages", "__pycache__"})


class Scope:
    """The folders in which a script's own files lie.

    Args:
        roots: folders; files below them belong to the script.
        excluded: folders that do not, wherever they lie, such as the run's own.
    """

    def __init__(self, roots: Iterable[str], excluded: Iterable[str]) -> None:
        self._roots = [_as_prefix(root) for root in roots]
        self._excluded = [_as_prefix(folder) for folder in excluded if folder]

    def add(self, folder: str) -> None:
        """The script has made this folder: it writes its output there."""
        prefix = _as_prefix(folder)
        if not any(prefix.startswith(root) for root in self._roots):
            self._roots.append(prefix)

    def holds(self, path: str) -> bool:
        """Whether `path`, an absolute one without links, belongs to the script. Caches and hidden folders do not."""
        for root in self._roots:
            if path.startswith(root) and not any(path.startswith(folder) for folder in self._excluded):
                parts = path[len(root) :].split(os.sep)
                if not any(part.startswith(".") or part in _NEVER for part in parts[:-1]):
                    return True
        return False

    def excludes_within(self, path: str) -> bool:
        """Whether something below `path`, or `path` itself, is no script's, such as the run's own folder."""
        prefix = _as_prefix(path)
        return any(folder.startswith(prefix) for folder in self._excluded)


def _as_prefix(folder: str) -> str:
    return os.path.join(os.path.realpath(folder), "")
