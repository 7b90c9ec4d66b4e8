"""Copies of ranks that each hold a part of the arrays: those of one step become a checkpoint, or none do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backprop_core.checkpoints import survivor_header
from backprop_core.checkpoints.codec import Snapshot, capture, capture_shards
from backprop_core.checkpoints.manifest import CheckpointFacts
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.shards import SHARDS, OwnShards, SavedShards
from backprop_core.checkpoints.shared_memory import SharedMemory
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.checkpoints.survivor_memory import CopyOfRanks
from backprop_core.clock import SYSTEM
from backprop_core.governor.survivor_commit import Remains, Survival, commit, of_each_training
from backprop_core.outcome import SaveReason
from backprop_core.runs.handover import MemoryOwner
from backprop_core.session import survivor as survivor_module
from backprop_core.session.spare_memory import SpareMemory
from backprop_core.session.survivor import Survivor
from backprop_core.testing.clock import FakeClock

NUMPY = (NumpyTranslator(),)
FACTS = CheckpointFacts("run", 1, 0, None, 0, SaveReason.PERIODIC)


class _NoLine:
    def close(self) -> None: ...


class Rank:
    """One rank's memory. Every byte of its block tells the step, and which rank it is of."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.rank = rank
        self.memory = SharedMemory()
        survivor_header.begin(self.memory.header)
        spare = SpareMemory(FakeClock(), lambda: (64 << 30, 64 << 30))
        self.survivor = Survivor(self.memory, _NoLine(), NUMPY, SYSTEM, spare)  # type: ignore[arg-type]
        owner = MemoryOwner("run", 1, str(folder), "group", rank)
        self.remains = Remains(os.dup(self.memory.fd), owner)

    def copy(self, number: int, step: int, *, spared: int = 0, group: str = "group") -> int:
        """Copy what it holds; the half that went."""
        shards = {
            "model": {
                ".w": {"offsets": [self.rank], "block": np.full(64, (16 * step + self.rank) % 256, np.uint8)}
            }
        }
        if self.rank:
            blocks = capture_shards(shards, NUMPY)
            snapshot = Snapshot({}, blocks.nbytes, blocks)
        else:
            states = {"model": {"w": "a mark"}, "rest": {"step": step}, SHARDS: OwnShards(shards, None)}
            snapshot = capture(states, NUMPY)
        self.survivor.spared = spared
        half = self.survivor.choose([0, 1])
        assert half is not None
        self.survivor.wipe(half)
        staged = snapshot.staged(self.survivor.halves[half])
        facts = CopyOfRanks(group, number, self.rank, 2).marked(replace(FACTS, step=step))
        self.survivor.seal(half, staged, facts)
        self.survivor.settle()
        return half


class Both:
    def __init__(self, folder: Path) -> None:
        self.ranks = [Rank(folder, rank) for rank in (0, 1)]
        self.store = CheckpointStore(folder, clock=SYSTEM)

    def commit(self) -> Survival | None:
        ((first, *others),) = of_each_training([rank.remains for rank in reversed(self.ranks)])
        return commit(first, SYSTEM, others)

    def committed(self) -> list[int]:
        return [info.step for info in self.store.list()]


@pytest.fixture(params=[True, False], ids=["at once", "on a thread"])
def both(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Both:
    if not request.param:
        monkeypatch.setattr(survivor_module, "AT_ONCE_BYTES", 0)
    return Both(tmp_path / "checkpoints")


def test_the_newest_copy_of_all_ranks_is_one_checkpoint(both: Both) -> None:
    """An ordinary one, with a part of each rank, whole to the last byte, and none of the marks that a copy has."""
    for number in (1, 2, 3):
        for rank in both.ranks:
            rank.copy(number, 10 * number, spared=number - 1)
    both.ranks[0].survivor.passed(32, 1)
    survival = both.commit()
    assert survival is not None
    assert (survival.step, survival.died_at, survival.trouble) == (30, 32, "")
    (info,) = both.store.list()
    assert (info.facts.reason, dict(info.facts.extra)) == (SaveReason.SURVIVOR, {})
    assert both.store.verify(info) == []
    states = both.store.load(info, NUMPY).states
    saved = states[SHARDS]
    assert isinstance(saved, SavedShards)
    assert states["rest"] == {"step": 30}
    for rank, part in enumerate(saved):
        shard = part["model"][".w"]
        assert shard["offsets"] == [rank]
        assert (shard["block"] == np.uint8((16 * 30 + rank) % 256)).all()


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_copy_that_one_rank_lacks_is_none(both: Both, ahead: int) -> None:
    """A death between two seals leaves the copy before, which no rank had written over."""
    for number in (1, 2):
        for rank in both.ranks:
            rank.copy(number, 10 * number, spared=number - 1)
    both.ranks[ahead].copy(3, 30, spared=2)
    survival = both.commit()
    assert survival is not None
    assert survival.step == 20
    assert both.committed() == [20]


def test_a_rank_that_makes_no_copies_holds_the_others_to_the_last_common_one(both: Both) -> None:
    """However often the others copy, the half of the newest copy of all is not the one that goes."""
    for rank in both.ranks:
        rank.copy(1, 10)
    common = next(half for half, sealed in both.ranks[0].survivor._whole.items() if sealed.sequence == 1)
    for number in range(2, 7):
        assert both.ranks[0].copy(number, 10 * number, spared=1) != common
    both.commit()
    assert both.committed() == [10]


def test_copies_without_a_common_step_become_nothing_and_that_is_said(both: Both) -> None:
    """Better no checkpoint than one that mixes steps: the sentence says why there is none."""
    both.ranks[0].copy(2, 20)
    both.ranks[1].copy(1, 10)
    survival = both.commit()
    assert survival is not None
    assert survival.path is None
    assert "whole on all of its processes" in survival.trouble
    assert both.committed() == []
    assert not list(both.store.directory.glob("*"))


def test_copies_of_another_group_are_not_mixed_in(both: Both) -> None:
    """After a restart of the workers the numbers begin anew: the same number of another group is another step, perhaps."""
    both.ranks[0].copy(1, 10)
    both.ranks[1].copy(1, 10, group="before the restart")
    both.commit()
    assert both.committed() == []


def test_a_byte_that_changed_on_any_rank_costs_that_copy_on_all(both: Both) -> None:
    """The digest of one rank's block does not fit: the copy before is taken, of all ranks."""
    for number in (1, 2):
        for rank in both.ranks:
            rank.copy(number, 10 * number, spared=number - 1)
    memory = both.ranks[1].memory
    size = os.fstat(memory.fd).st_size
    place = os.pread(memory.fd, size, 0).rindex(bytes([16 * 20 % 256 + 1]) * 64)
    os.pwrite(memory.fd, b"\xff", place + 7)
    survival = both.commit()
    assert survival is not None
    assert survival.step == 10
    assert both.committed() == [10]


def test_what_others_have_left_alone_is_no_checkpoint(both: Both) -> None:
    """Where the first rank has given its copies up, its training was over, or what is committed is newer."""
    for rank in both.ranks:
        rank.copy(1, 10)
    both.ranks[0].survivor.close(leave=False)
    assert both.commit() is None
    assert commit(both.ranks[1].remains, SYSTEM) is None
    assert both.committed() == []
