"""Which checkpoint of a run a later attempt could start from, told cheaply: by its files, not by its
digests.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from backprop_core.errors import UsageError
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore

if TYPE_CHECKING:
    from backprop_core.config.sources import Settings

_OWN_PREFIX = "step-"
_MANIFEST = "manifest.json"


def usable(store: RunStore, record: RunRecord) -> str | None:
    """The newest checkpoint that is still there: a committed folder of ours, or what the script announced
    itself.
    """
    return next(iter(candidates(store, record)), None)


def whole(store: RunStore, record: RunRecord, told: Callable[[str], None]) -> str | None:
    """Like `usable`, for a script that is handed the path and cannot check it: every byte of one of ours is read first.

    A damaged one is told in a sentence, and the one before it is taken.
    """
    for place in candidates(store, record):
        damage = damage_in(place)
        if not damage:
            return place
        told(f"{damage} Falling back to the previous checkpoint.")
    return None


def damage_in(place: str) -> str:
    """A sentence if a checkpoint of ours is not what was written; of others nothing is known, so the empty string."""
    if not is_own(place):
        return ""
    from backprop_core.checkpoints.store import open_store
    from backprop_core.clock import SYSTEM
    from backprop_core.errors import BackpropError

    folder = place.rstrip("/").rpartition("/")[0]
    try:
        problems = open_store(folder, clock=SYSTEM).verify(Path(place))
    except BackpropError as error:
        problems = [str(error)]
    return problems[0] if problems else ""


def asked_for(path: str | None, cwd: Path, settings: Settings) -> str | None:
    """The checkpoint that `-r` names, absolute, checked as far as it can be before anything is started.

    Args:
        path: as it was given, or None.
        cwd: what a relative path is meant from.
        settings: with --resume-flag it goes to the script, and without a framework to nobody of ours: any format will do.

    Raises:
        UsageError: nothing is there, it is not a checkpoint of ours where one is needed, or it is damaged.
    """
    if path is None or is_remote(path):
        return path
    place = (cwd / Path(path).expanduser()).absolute()
    if not place.exists():
        raise UsageError(f"There is no checkpoint at {place}.", "Give --resume-from the path of one.")
    if place.name.startswith(_OWN_PREFIX) and is_own(str(place)):
        damage = damage_in(str(place))
    elif settings["resume-flag"] or settings["framework"] == "none":
        return str(place)
    elif not (inside := committed(place)):
        raise UsageError(
            f"{place} is neither a backprop checkpoint nor a folder of checkpoints.",
            "For a file that the script saved itself, give the flag with which the script resumes: --resume-flag FLAG.",
        )
    else:
        problems = [damage_in(str(one)) for one in reversed(inside)]
        damage = "" if "" in problems else problems[0]
    if damage:
        raise UsageError(damage, "Leave out --resume-from to use the newest intact checkpoint.")
    return str(place)


def candidates(store: RunStore, record: RunRecord) -> Iterator[str]:
    """All that is still there, newest first: what the record knows, and those of ours that it does not know yet."""
    folder = store.checkpoints_dir(record)
    unknown = [str(path) for path in committed(folder) if str(path) not in record.checkpoints]
    for known in reversed(record.checkpoints):
        if not (is_remote(known) or is_there(Path(known))):
            continue
        while unknown and Path(known).parent == folder and unknown[-1] > known:
            yield unknown.pop()
        yield known
    yield from reversed(unknown)


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
