"""Where processes of one host meet: a folder on local disk that is ours alone and that a reboot empties."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from backprop_core.errors import StoreError

ENV_RUNTIME_DIR = "BACKPROP_RUNTIME_DIR"
_HINT = f"Set {ENV_RUNTIME_DIR} to a folder on a local disk that only you can write to."


def runtime_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`$BACKPROP_RUNTIME_DIR`, else `backprop` in the user's runtime folder, else a folder in the temporary
    one.

    Never in the home folder: that may lie on a network file system, where locks do not hold.

    Raises:
        StoreError: it cannot be made, is a link, or others could write to it.
    """
    path = _wanted(environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        facts = path.lstat()
    except OSError as error:
        raise StoreError(
            f"Cannot use {path} for locks: {error.strerror or error}.", _HINT, path=path
        ) from error
    # The temporary folder belongs to everybody: somebody else may have been there first with this name.
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise StoreError(f"{path} is not a folder of this user.", _HINT, path=path)
    if stat.S_IMODE(facts.st_mode) & 0o022:
        raise StoreError(f"Others may write to {path}.", f"Run 'chmod 700 {path}'. {_HINT}", path=path)
    return path


def _wanted(environ: Mapping[str, str]) -> Path:
    named = environ.get(ENV_RUNTIME_DIR)
    if named:
        return Path(named).absolute()
    user = os.geteuid()
    # cron and ssh commands have no XDG_RUNTIME_DIR: they have to meet those that do, so the usual place is tried.
    for place in (environ.get("XDG_RUNTIME_DIR"), f"/run/user/{user}"):
        if place and os.path.isabs(place) and _is_own_folder(Path(place)):  # noqa: PTH117
            return Path(place) / "backprop"
    return Path(tempfile.gettempdir()) / f"backprop-{user}"


def _is_own_folder(path: Path) -> bool:
    try:
        facts = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and os.access(path, os.W_OK)
