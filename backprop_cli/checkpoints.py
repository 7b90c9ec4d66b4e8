"""Which checkpoint of a run a later attempt could start from, told cheaply: by its files, not by its
digests.
"""

from __future__ import annotations

import glob
from pathlib import Path

from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore

_OWN_PREFIX = "step-"
_MANIFEST = "manifest.json"


def usable(store: RunStore, record: RunRecord) -> str | None:
    """The newest checkpoint that is still there: a committed folder of ours, or what the script announced
    itself.
    """
    for known in reversed(record.checkpoints):
        if is_remote(known) or is_there(Path(known)):
            return known
    own = committed(store.checkpoints_dir(record))
    return str(own[-1]) if own else None


def is_remote(place: str) -> bool:
    """Whether a checkpoint lies in an object store: whether it is there is found out by whoever restores
    it.
    """
    return "://" in place


def is_there(path: Path) -> bool:
    """Whether a checkpoint exists: a folder of ours with its manifest, or any other file or folder with
    content.
    """
    try:
        if path.is_dir():
            if path.name.startswith(_OWN_PREFIX):
                return (path / _MANIFEST).is_file()
            return any(path.iterdir())
        return path.is_file() and path.stat().st_size > 0
    except OSError:
        return False


def is_own(place: str) -> bool:
    """Whether a place is a checkpoint folder of backprop's own format."""
    return is_remote(place) or (Path(place) / _MANIFEST).is_file()


def committed(folder: Path) -> list[Path]:
    """The committed checkpoints in a folder, oldest first."""
    try:
        return sorted(
            path for path in folder.iterdir() if path.name.startswith(_OWN_PREFIX) and is_own(str(path))
        )
    except OSError:
        return []


def newest_matches(cwd: Path, pattern: str, since_wall: float) -> list[str]:
    """The files that match a pattern and were written since then, oldest first, the newest 20 at most.

    Args:
        cwd: the folder that a relative pattern is meant from.
        pattern: as for the shell, with `**`.
        since_wall: seconds since 1970; older files are another run's.
    """
    found = []
    for name in glob.glob(pattern, root_dir=cwd, recursive=True):  # noqa: PTH207 - a Path refuses absolute patterns
        path = cwd / name
        try:
            written = path.stat().st_mtime
        except OSError:
            continue
        if written >= since_wall and is_there(path):
            found.append((written, str(path)))
    return [path for _, path in sorted(found)[-20:]]
