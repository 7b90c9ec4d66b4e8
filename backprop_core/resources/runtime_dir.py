"""Where processes of one host meet: a folder on local disk that is ours alone and that a reboot empties.

All of them have to find the same one, whatever their environment: a shell, cron, a job of a cluster. So `TMPDIR` plays no
part, and a folder that another user has made under our name is passed over for one whose name nobody can know beforehand.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from backprop_core import contract
from backprop_core.errors import RuntimeFolderError, StoreError
from backprop_core.runs.atomic import read_regular
from backprop_core.runs.home import backprop_home

_HINT = f"Set {contract.RUNTIME_DIR} to a folder on a local disk that only you can write to."
_SHARED = Path("/tmp")
_TRIES = 5


def runtime_dir(environ: Mapping[str, str] = os.environ, shared: Path = _SHARED) -> Path:
    """`$BACKPROP_RUNTIME_DIR`, else `backprop` in the user's runtime folder, else a folder in `/tmp`.

    Never in the home folder: that may lie on a network file system, where locks do not hold.

    Args:
        shared: the folder that every process of the host can write to.

    Raises:
        RuntimeFolderError: it cannot be made, is a link, or others could write to it.
    """
    named = environ.get(contract.RUNTIME_DIR)
    if named:
        return _usable(Path(named).absolute())
    user = os.geteuid()
    # cron and ssh commands have no XDG_RUNTIME_DIR: they have to meet those that do, so the usual place is tried.
    for place in (environ.get("XDG_RUNTIME_DIR"), f"/run/user/{user}"):
        if place and os.path.isabs(place) and _is_own_folder(Path(place)):  # noqa: PTH117
            return _usable(Path(place) / "backprop")
    usual = shared / f"backprop-{user}"
    if not _is_foreign(usual):
        return _usable(usual)
    return _hidden(environ, usual)


def _usable(path: Path) -> Path:
    """`path`, made if need be, if it is a folder of this user that nobody else can write to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        facts = path.lstat()
    except OSError as error:
        raise RuntimeFolderError(
            f"Cannot use {path} for locks: {error.strerror or error}.", _HINT, path=path
        ) from error
    # The temporary folder belongs to everybody: somebody else may have been there first with this name.
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise RuntimeFolderError(f"{path} is not a folder that you own.", _HINT, path=path)
    if stat.S_IMODE(facts.st_mode) & 0o022:
        raise RuntimeFolderError(
            f"Other users can write to {path}.", f"Run 'chmod 700 {path}'. {_HINT}", path=path
        )
    return path


def _is_foreign(path: Path) -> bool:
    """Whether another user, or anything that is no folder, has the name `path`."""
    try:
        facts = path.lstat()
    except OSError:
        return False
    return not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid()


def _hidden(environ: Mapping[str, str], usual: Path) -> Path:
    """A folder beside `usual` with a name that was drawn and that our home knows: all of our processes meet there."""
    try:
        home = backprop_home(environ)
        note = home / f"runtime-{socket.gethostname().replace('/', '-')[:64]}"
        for _ in range(_TRIES):
            path = usual.with_name(f"{usual.name}-{_drawn(note)}")
            if not _is_foreign(path):
                return _usable(path)
            note.unlink(missing_ok=True)  # it was read in the listing of the folder and taken after a reboot
    except (OSError, StoreError) as error:
        raise RuntimeFolderError(
            f"{usual} belongs to another user, and {error}", _HINT, path=usual
        ) from error
    raise RuntimeFolderError(f"{usual} belongs to another user.", _HINT, path=usual)


def _drawn(note: Path) -> str:
    """The word in `note`, drawn and written down if there is none."""
    try:
        descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        word = read_regular(note, 64).decode("ascii", "replace").strip()
        if word.isalnum():
            return word
        note.unlink(missing_ok=True)  # its writer was killed in between
        return _drawn(note)
    word = os.urandom(16).hex()
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(word)
    return word


def _is_own_folder(path: Path) -> bool:
    try:
        facts = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and os.access(path, os.W_OK)
