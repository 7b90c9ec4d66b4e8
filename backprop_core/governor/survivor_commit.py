"""Commits what a dead training process has left in memory: the governor does, or a keeper that has outlived it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from backprop_core.checkpoints import survivor_header
from backprop_core.clock import Clock
from backprop_core.errors import CheckpointDamagedError, CheckpointError
from backprop_core.events.kinds import Survived
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.handover import MemoryOwner

if TYPE_CHECKING:
    from backprop_core.checkpoints.survivor_memory import CopyOfRanks, Half


@dataclass(frozen=True, slots=True)
class Remains:
    """Memory that outlives its process, and whose it is."""

    fd: int
    owner: MemoryOwner


@dataclass(frozen=True, slots=True)
class Survival:
    """What has come of a sudden death.

    Attributes:
        path, step: of the checkpoint that was made of what the process had left; None where none was.
        nbytes, seconds: its size, and how long it took.
        died_at: the step that training had come to, as far as is known; `exact` where it looked at each.
        trouble: a sentence on why there is none, or on a copy that was refused.
        compared_at: at this step, or later, what was not copied again for it was compared; None where every byte was copied.
    """

    path: str | None = None
    step: int | None = None
    nbytes: int = 0
    seconds: float = 0.0
    died_at: int | None = None
    exact: bool = False
    trouble: str = ""
    compared_at: int | None = None

    def event(self) -> Survived:
        """What is written of it."""
        return Survived(**asdict(self))


def of_each_training(held: Iterable[Remains]) -> list[list[Remains]]:
    """All that is held, in lists of what belongs to one training; each in the order of its ranks."""
    trainings: dict[object, list[Remains]] = {}
    for number, remains in enumerate(held):
        trainings.setdefault(remains.owner.group or number, []).append(remains)
    return [sorted(one, key=lambda remains: remains.owner.rank) for one in trainings.values()]


def commit(remains: Remains, clock: Clock, others: Sequence[Remains] = ()) -> Survival | None:
    """Make a checkpoint of the newest copy that is whole, unless there is one that is as new; None where nothing was left.

    Args:
        remains: of the process that had the whole training, or was its first rank.
        others: of its other ranks, where each held a part of the state: a copy is whole where all have theirs of that step.

    Never raises: whoever calls it has other things to do.
    """
    try:
        with _alone(remains.fd):
            return _commit(remains, clock, others)
    except Exception as error:
        what = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
        return Survival(trouble=f"The copy of the training in memory could not be saved: {what.rstrip('.')}.")


@contextmanager
def _alone(fd: int) -> Iterator[None]:
    """One process at a time: two keepers may have outlived a governor. The kernel lets go when the holder dies."""
    import fcntl

    fcntl.lockf(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN)


def _commit(remains: Remains, clock: Clock, others: Sequence[Remains]) -> Survival | None:
    if not survivor_header.anything_left(remains.fd):
        return None
    from backprop_core.checkpoints.store import (
        open_store,  # late: a governor of a run that ends well needs none of it
    )
    from backprop_core.checkpoints.survivor_memory import compared_at, halves, of_ranks

    owner, refused = remains.owner, ""
    died_at, exact = survivor_header.came_to(remains.fd) or (None, False)
    store = open_store(owner.checkpoints, clock=clock)
    for half in halves(remains.fd):
        if isinstance(half, ValueError):
            refused = _refusal(str(half))
            continue
        facts = half.manifest.facts
        if (facts.run_id, facts.attempt) != (owner.run_id, owner.attempt):
            refused = _refusal(f"it is of run {facts.run_id[:80]}, attempt {facts.attempt}")
            continue
        if any(info.facts.run_id == owner.run_id and info.step >= facts.step for info in store.list()):
            return Survival(died_at=died_at, exact=exact)
        among = of_ranks(facts)
        if among is not None and among.rank:
            return None  # the first rank has left nothing: its training was over, or a checkpoint is newer
        whole = half if among is None else _of_all(half, among, others)
        if whole is None:
            refused = refused or "No copy of the training in memory was whole on all of its processes."
            continue
        try:
            info = store.adopt(whole.plan, whole.manifest.facts, whole.manifest.files)
        except CheckpointDamagedError as error:
            refused = _refusal(str(error).rstrip("."))
            continue
        trouble = "" if among is not None else refused
        compared = compared_at(whole.manifest.facts)
        return Survival(info.address, info.step, info.nbytes, info.save_s, died_at, exact, trouble, compared)
    return Survival(died_at=died_at, exact=exact, trouble=refused) if refused else None


def _of_all(first: Half, among: CopyOfRanks, others: Sequence[Remains]) -> Half | None:
    """The checkpoint that the first rank's copy makes with those of all others; None where one of them lacks it."""
    from backprop_core.checkpoints.survivor_memory import halves, of_ranks, together

    copies = {0: first}
    facts = first.manifest.facts
    for half in (half for other in others for half in halves(other.fd)):
        if not isinstance(half, ValueError):
            theirs = half.manifest.facts
            theirs_among = of_ranks(theirs)
            same = (theirs.run_id, theirs.attempt, theirs.step) == (facts.run_id, facts.attempt, facts.step)
            if same and theirs_among == replace(among, rank=theirs_among.rank if theirs_among else 0):
                assert theirs_among is not None
                copies[theirs_among.rank] = half
    return together([copies[rank] for rank in range(among.count)]) if len(copies) == among.count else None


def _refusal(why: str) -> str:
    return f"A copy of the training in memory was refused: {why}."


def forget(remains: Remains) -> None:
    """Let go of the memory."""
    with suppress(OSError):
        os.close(remains.fd)
