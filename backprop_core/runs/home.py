"""Where backprop keeps its runs: `$BACKPROP_HOME`, else `~/.backprop`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from backprop_core import contract
from backprop_core.errors import StoreError

_HINT = f"Set {contract.HOME} to a folder that you can write to."


def backprop_home(environ: Mapping[str, str] = os.environ, *, write: bool = True) -> Path:
    """The home folder as an absolute path, made with mode 0700 if it is missing.

    Args:
        environ: where `BACKPROP_HOME` is looked up.
        write: False for commands that only look: then a read-only home is accepted, and a missing one not
        made.

    Raises:
        StoreError: it is not a folder, leads nowhere, or may not be read or written; says what to do.
    """
    path = _wanted(environ)
    try:
        if path.is_symlink() and not path.exists():
            raise StoreError(
                f"{path} is a dangling symbolic link ({path.readlink()}).",
                f"Remove the link or create its target. {_HINT}",
                path=path,
            )
        if not path.exists():
            if not write:
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        if not path.is_dir():
            raise StoreError(f"{path} is a file, not a folder.", f"Move it away. {_HINT}", path=path)
    except OSError as error:
        raise StoreError(
            f"Cannot use {path} as backprop's home: {error.strerror or error}.", _HINT, path=path
        ) from error
    _check_access(path, write)
    return path


def _wanted(environ: Mapping[str, str]) -> Path:
    text = environ.get(contract.HOME) or "~/.backprop"
    if "\0" in text:
        raise StoreError(f"{contract.HOME} holds a NUL character.", _HINT)
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise StoreError(
            f"Cannot tell which folder {text!r} means: {str(error).rstrip('.')}.", _HINT
        ) from error


def _check_access(path: Path, write: bool) -> None:
    if not os.access(path, os.R_OK | os.X_OK):
        raise StoreError(f"{path} cannot be read.", f"Check its owner and mode. {_HINT}", path=path)
    if write and not os.access(path, os.W_OK):
        raise StoreError(
            f"{path} cannot be written to.",
            f"Check its owner and mode, and that it is not mounted read-only. {_HINT}",
            path=path,
        )
