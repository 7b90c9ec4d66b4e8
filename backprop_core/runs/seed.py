"""The one number that a run makes up for what its script does not seed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from backprop_core.runs.atomic import read_regular

_NAME = "random-seed"
_DIGITS = 32
_MOST_HASH_SEED = 4294967295


def random_seed(run_dir: Path) -> str:
    """The seed of the run in `run_dir`, hexadecimal, made up the first time; empty where it can be neither read nor kept."""
    path = run_dir / _NAME
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(os.urandom(_DIGITS // 2).hex())
    try:
        seed = read_regular(path, 4096).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return seed if len(seed) == _DIGITS and all(letter in "0123456789abcdef" for letter in seed) else ""


def hash_seed(seed: str) -> str:
    """What PYTHONHASHSEED is to be, so that sets of strings have one order in all attempts."""
    return str(1 + int(seed, 16) % _MOST_HASH_SEED)
