"""Which process each rank of an attempt is, noted when it starts: so others need not wait for one that has ended.

A rank that dies before it comes to the box has said nothing to the others, and they would wait for it for minutes. Under
`backprop run` every process that a launcher has numbered leaves its identity in the attempt's folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from backprop_core import contract
from backprop_core.runs.atomic import replace_file
from backprop_core.runs.attempt import attempt_dir
from backprop_core.runs.process import Life, ProcessIdentity
from backprop_core.strict_json import decode, encode


def note_own_rank(environ: Mapping[str, str] = os.environ) -> None:
    """Leave word which process this rank is. A child that inherits the number, as a loader's worker, changes nothing."""
    path = _place(environ, environ.get("RANK", ""))
    if path is None or _noted(path) is Life.ALIVE:
        return
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        replace_file(path, encode(ProcessIdentity.own().to_json()).encode(), lasting=False)


def has_ended(rank: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the process of `rank` ran on this machine, and is gone."""
    path = _place(environ, str(rank))
    return path is not None and _noted(path) is Life.GONE


def _place(environ: Mapping[str, str], rank: str) -> Path | None:
    run_dir, number = environ.get(contract.RUN_DIR), environ.get(contract.ATTEMPT, "")
    if not run_dir or not number.isdigit() or not rank.isdigit():
        return None
    return attempt_dir(Path(run_dir), max(1, int(number))) / "ranks" / f"{int(rank)}.json"


def _noted(path: Path) -> Life | None:
    try:
        identity = ProcessIdentity.from_json(decode(path.read_bytes()))
    except (OSError, ValueError):
        return None
    return None if identity is None else identity.life()
