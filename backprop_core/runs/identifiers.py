"""Run ids: names of folders, so nothing that comes from outside is one before it was checked here."""

from __future__ import annotations

import os
import re

from backprop_core.clock import Clock, utc_text
from backprop_core.errors import UsageError

MAX_LENGTH = 64
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Names that Windows gives to devices, whatever their extension: a home folder may lie on a share.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # 32, without 0/o and 1/l: ids are read aloud
_HINT = (
    f"Use 1 to {MAX_LENGTH} letters, digits, '-', '_' and '.', beginning with a letter or digit, "
    "such as 'digits-baseline'."
)


def valid_run_id(text: str) -> str:
    """`text` itself if it can safely name a folder on any file system.

    Raises:
        UsageError: it is empty, too long, has a character that is not allowed, could climb out of the folder,
            or is a name that Windows reserves.
    """
    if not text:
        raise UsageError("A run id must not be empty.", _HINT)
    shown = repr(text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}...")
    if len(text) > MAX_LENGTH:
        raise UsageError(f"The run id {shown} is too long ({len(text)} characters).", _HINT)
    if not _ALLOWED.fullmatch(text):
        raise UsageError(f"{shown} is not a run id.", _HINT)
    if ".." in text or text.endswith("."):
        raise UsageError(f"{shown} is not a run id: it must not contain '..' or end with a dot.", _HINT)
    if _DEVICES.fullmatch(text):
        raise UsageError(f"{shown} is not a run id: Windows reserves that name.", _HINT)
    return text


def is_run_id(text: str) -> bool:
    """Whether `valid_run_id` would accept `text`."""
    try:
        valid_run_id(text)
    except UsageError:
        return False
    return True


def new_run_id(clock: Clock) -> str:
    """A fresh id that sorts by time (UTC), such as `20261123-154248-k3f9`."""
    date, _, rest = utc_text(clock.wall()).partition("T")
    stamp = f"{date.replace('-', '')}-{rest.rstrip('Z').replace(':', '')}"
    return f"{stamp}-{''.join(_LETTERS[byte % 32] for byte in os.urandom(4))}"
