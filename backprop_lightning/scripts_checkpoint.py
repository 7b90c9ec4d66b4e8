"""The checkpoint that `fit(ckpt_path=...)` has led to: of which step it is, read without loading it."""

from __future__ import annotations

import pickletools
import zipfile
from typing import Any

from fsspec.core import url_to_fs

from backprop_core.session.scripts_checkpoint import ScriptsCheckpoint

_META = "meta.pt"
"""In the folder of a sharded checkpoint: everything but the shards."""
_MEMO = ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE")


def found(path: Any) -> ScriptsCheckpoint | None:
    """What is known of the file, folder or address that Lightning is about to load; None without one."""
    if not path:
        return None
    step = wall_s = None
    try:
        system, place = url_to_fs(str(path))
        if system.isdir(place):
            place = f"{place}/{_META}"
        wall_s = float(system.modified(place).timestamp())
        with system.open(place, "rb") as file:
            step = _step(file)
    except Exception:  # Lightning will say what is wrong with it
        return ScriptsCheckpoint(str(path), step, wall_s)
    return ScriptsCheckpoint(str(path), step, wall_s)


def _step(file: Any) -> int | None:
    """`global_step`, which Lightning writes before anything large: read from the pickle's text, so nothing of it is run."""
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        with archive.open(name) as pickle:
            awaited = False
            for opcode, value, _ in pickletools.genops(pickle):
                if awaited and opcode.name not in _MEMO:
                    return value if isinstance(value, int) else None
                awaited = awaited or value == "global_step"
    return None
