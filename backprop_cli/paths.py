"""Paths and names that a person types: a mistake in one is a sentence, and is found before anything is started."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import click

from backprop_core.clock import SYSTEM
from backprop_core.errors import StoreError, UsageError, shown
from backprop_core.runs.atomic import replace_file
from backprop_core.runs.home import backprop_home
from backprop_core.session.settings import LONGEST_NAME

_READER_COMES_S = 5.0
_SHOWN = 120
"""Characters of a path that a message shows."""


def given(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The callback of an option that takes a path: a shell variable that was never set gives an empty one."""
    if value is not None and not value.strip():
        raise click.BadParameter("the path is empty.", ctx, param)
    return value


def unusable(error: OSError, words: Sequence[str]) -> str | None:
    """A sentence on an error of the system about a path that was typed; None where it is about another one.

    Args:
        words: what was typed.
    """
    path = error.filename
    typed = [word.partition("=")[2] or word for word in words if len(word) > 1]
    if not isinstance(path, str) or not any(word.strip("/") and word.strip("/") in path for word in typed):
        return None
    return f"{shortened(path)} cannot be used: {error.strerror or error}. Check the path."


def shortened(path: str) -> str:
    """A path of any length as messages show it."""
    return path if len(path) <= _SHOWN else f"{path[:_SHOWN]}..."


def check_can_write(option: str, path: str | None) -> None:
    """Raise UsageError where a file could not be written at the end: all that is known before anything is started.

    Args:
        option: that the path was given with, such as `--json-to`.
        path: a file, which need not exist, a pipe, a device, or `/dev/fd/3`; None for nothing to check.
    """
    if path is None:
        return
    place = Path(path)
    try:
        kind = place.stat().st_mode
    except FileNotFoundError:
        folder = place.parent
        if path.startswith("/dev/fd/") or not folder.is_dir():
            what = "is not open" if path.startswith("/dev/fd/") else f"is in {folder}, which is not a folder"
            raise UsageError(
                f"{option} {shortened(path)} {what}.", "Give a file in an existing folder."
            ) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(
                f"{option}: {folder} cannot be written to.", "Give a file in another folder."
            ) from None
        return
    if stat.S_ISDIR(kind):
        raise UsageError(f"{option} {shortened(path)} is a folder.", "Give the name of a file.")
    if not os.access(place, os.W_OK):
        raise UsageError(f"{option} {shortened(path)} cannot be written to.", "Give another file.")


def check_can_make(option: str, folder: Path) -> None:
    """Raise UsageError where files could not be written into a folder that may have to be made first.

    Args:
        option: that it was given with, such as `--to`.
    """
    place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not place.is_dir():
        what = "is a file" if place == folder.absolute() else f"is in {place}, which is not a folder"
        raise UsageError(f"{option} {shortened(str(folder))} {what}.", "Give the name of a folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{option}: {place} cannot be written to.", "Give another folder.")


def check_name(name: str | None) -> None:
    """Raise UsageError for a label that would fill every table."""
    if name is not None and len(name) > LONGEST_NAME:
        raise UsageError(
            f"--name {shown(name)} has {len(name)} characters.", f"Give one of at most {LONGEST_NAME}."
        )


def check_schedule(replay: str | None) -> None:
    """Raise UsageError where `--replay-schedule` names neither a run nor a place that exists."""
    if not replay:
        return
    named = Path(replay).expanduser()
    if (
        not named.is_file()
        and not named.is_dir()
        and not (backprop_home(os.environ, write=False) / "runs" / replay).is_dir()
    ):
        raise UsageError(
            f"--replay-schedule {shortened(replay)} is neither a run nor a file.",
            "Name a run that has trained with a BudgetLR (see 'backprop list'), or the file of its schedule.",
        )


def open_pipe(path: Path) -> BinaryIO:
    """A named pipe, open to be written, if somebody reads it or soon does; to wait for ever would keep the command alive.

    Raises:
        OSError: nobody has come to read it within `_READER_COMES_S`.
    """
    end = SYSTEM.monotonic() + _READER_COMES_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if SYSTEM.monotonic() > end:
                raise OSError(errno.ENXIO, "nobody reads this pipe", str(path)) from None
            SYSTEM.sleep(0.05)
        else:
            os.set_blocking(descriptor, True)
            return os.fdopen(descriptor, "wb")


def write_output(path: Path, content: bytes) -> None:
    """Write a file that was asked for: a regular one, or one that is new, in one step; a pipe or a device as it is.

    Raises:
        StoreError: it cannot be written.
    """
    if path.is_file() or not path.exists():
        replace_file(path.resolve(), content, lasting=False)  # a link stays one
        return
    try:
        with open_pipe(path) if path.is_fifo() else path.open("wb") as file:
            file.write(content)
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror or error}.", path=path) from error
