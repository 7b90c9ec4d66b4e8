"""Which checkpoints may go. Pure: it is given what there is and touches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .manifest import CheckpointInfo

LEAST_KEPT: Final = 2
"""The newest may turn out to be damaged when it is needed; there is always one before it."""


def expendable(
    newest_first: Sequence[CheckpointInfo], *, spare: Path, keep: int, keep_every: int | None = None
) -> list[CheckpointInfo]:
    """The checkpoints beyond the newest `keep`, oldest first, milestones left out.

    Args:
        newest_first: all committed checkpoints.
        spare: the one just made. It stays even where others have higher steps: a run that was sent back to an
            earlier step goes on from there.
        keep: how many of the newest stay; never fewer than `LEAST_KEPT`.
        keep_every: besides those, the first checkpoint at or after every multiple of this many steps stays
            for good.
    """
    beyond = newest_first[max(keep, LEAST_KEPT) :]
    milestones = _milestones(newest_first, keep_every) if keep_every else set[Path]()
    return [info for info in reversed(beyond) if info.path not in milestones and info.path != spare]


def _milestones(newest_first: Sequence[CheckpointInfo], keep_every: int) -> set[Path]:
    first: dict[int, CheckpointInfo] = {}
    for info in reversed(newest_first):
        reached = info.step // keep_every
        if reached:
            first.setdefault(reached, info)
    return {info.path for info in first.values()}
