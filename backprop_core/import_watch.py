"""Whether a script is still importing: a large framework takes longer, on a busy machine, than anybody waits for a training.

The script's process touches a file in its attempt's folder while modules are looked up; the governor looks how old that is.
"""

from __future__ import annotations

import os

from backprop_core import contract

TYPE_CHECKING = False  # this is loaded when a script starts
if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = "importing"
_EVERY = 16
FRESH_S = 5.0
"""A module that is loaded slowly looks up no other one for a while."""


class ImportWatch:
    """A finder on `sys.meta_path` that finds nothing: it touches a file at every 16th module that is looked up."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._count = 0

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if self._count % _EVERY == 0:
            try:
                os.utime(self._path)
            except OSError:
                self._count = 1  # no file, no word
                return
        self._count += 1


def watch_imports() -> ImportWatch:
    """The finder for this process, with its file made.

    Raises:
        OSError: the attempt's folder cannot be written to.
    """
    path = os.path.join(os.environ[contract.RUN_DIR], "attempts", os.environ[contract.ATTEMPT], _NAME)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    return ImportWatch(path)


def is_importing(attempt_dir: str | os.PathLike[str], wall_s: float) -> bool:
    """Whether the attempt's script has looked up modules within the last seconds before `wall_s`."""
    try:
        return wall_s - os.stat(os.path.join(attempt_dir, _NAME)).st_mtime < FRESH_S
    except OSError:
        return False
