"""Which checkpoint of a run a later attempt could start from, told cheaply: by its files, not by its
digests.
"""

from __future__ import annotations

from pathlib import Path

from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore

_OWN_PREFIX = "step-"
_MANIFEST = "manifest.json"


def usable(store: RunStore, record: RunRecord) -> Path | None:
    """The newest checkpoint that is still there: a committed folder of ours, or what the script announced
    itself.
    """
    for known in reversed(record.checkpoints):
        path = Path(known)
        if is_there(path):
            return path
    own = committed(store.checkpoints_dir(record))
    return own[-1] if own else None


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


def is_own(path: Path) -> bool:
    """Whether a path is a checkpoint folder of backprop's own format."""
    return (path / _MANIFEST).is_file()


def committed(folder: Path) -> list[Path]:
    """The committed checkpoints in a folder, oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(_OWN_PREFIX) and is_own(path))
    except OSError:
        return []
