"""Removing folders: renamed into the trash first, so that half a removal is never taken for a whole
checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

from backprop_core.clock import Clock

from . import names

ABANDONED_AFTER_S: Final = 3600.0
"""A temporary folder of another machine in which nothing was written for so long belongs to nobody any more.
"""


def remove(path: Path) -> None:
    """Take a folder away as far as the disk allows. What is left of it is trash for the next sweep."""
    trash = path.with_name(f"{names.TRASH_PREFIX}{os.urandom(8).hex()}")
    try:
        path.rename(trash)
    except OSError:
        if names.parse_saving_folder(path.name) is None:
            return  # a committed checkpoint that cannot be renamed stays whole
        trash = path
    _remove_tree(trash)


def sweep(directory: Path, clock: Clock) -> None:
    """Remove trash, and temporary folders of saves whose process is gone."""
    try:
        found = list(directory.iterdir())
    except OSError:
        return
    here = names.Owner.this_process()
    for path in found:
        if path.is_symlink():
            continue
        if path.name.startswith(names.TRASH_PREFIX):
            _remove_tree(path)
            continue
        owner = names.parse_saving_folder(path.name)
        if owner is not None and _is_abandoned(path, owner, here, clock):
            remove(path)


def _is_abandoned(path: Path, owner: names.Owner, here: names.Owner, clock: Clock) -> bool:
    dead = owner.is_dead(here)
    if dead is not None:
        return dead
    latest = 0.0
    with contextlib.suppress(OSError):  # a file that goes while we look: somebody is at work there
        latest = max(entry.stat().st_mtime for entry in (path, *path.iterdir()))
        return clock.wall() - latest > ABANDONED_AFTER_S
    return False


def _remove_tree(path: Path) -> None:
    with contextlib.suppress(OSError):  # `ignore_errors` lets an error of fstat through
        shutil.rmtree(path, ignore_errors=True)
