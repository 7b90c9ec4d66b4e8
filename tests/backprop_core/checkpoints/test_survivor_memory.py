"""Memory that outlives its process: what is whole is committed, and what is torn, stale or forged is not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backprop_core.checkpoints import survivor_header
from backprop_core.checkpoints.codec import Snapshot, capture
from backprop_core.checkpoints.manifest import CheckpointFacts
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.shared_memory import SharedMemory
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from backprop_core.governor.survivor_commit import Remains, commit
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


class Left:
    """A training's memory and the store that it is committed to."""

    def __init__(self, folder: Path) -> None:
        self.memory = SharedMemory()
        self.free = 64 << 30
        survivor_header.begin(self.memory.header)
        self.clock = FakeClock()
        spare = SpareMemory(self.clock, lambda: (64 << 30, self.free))
        self.survivor = Survivor(self.memory, _NoLine(), NUMPY, SYSTEM, spare)  # type: ignore[arg-type]
        self.store = CheckpointStore(folder, clock=SYSTEM)
        self.remains = Remains(os.dup(self.memory.fd), MemoryOwner("run", 1, str(folder)))

    def copy(self, half: int, step: int, *, nbytes: int = 4096) -> Snapshot:
        """A copy of a state that the step is written all over."""
        states = {
            "model": {"w": np.full(nbytes, step % 256, np.uint8)},
            "rest": {"step": step, "text": "x" * step},
        }
        self.survivor.wipe(half)
        snapshot = capture(states, NUMPY).staged(self.survivor.halves[half])
        self.survivor.seal(half, snapshot, replace(FACTS, step=step))
        self.survivor.settle()
        return snapshot

    def committed(self) -> list[tuple[int, SaveReason]]:
        return [(info.step, info.facts.reason) for info in self.store.list()]

    def spoil(self, offset: int, data: bytes) -> None:
        os.pwrite(self.memory.fd, data, offset)


@pytest.fixture(params=[True, False], ids=["at once", "on a thread"])
def left(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Left:
    if not request.param:
        monkeypatch.setattr(survivor_module, "AT_ONCE_BYTES", 0)
    return Left(tmp_path / "checkpoints")


def test_the_newest_half_becomes_a_checkpoint(left: Left) -> None:
    """Of two copies the newer is committed, with the reason `survivor`, whole to the last byte, and once."""
    for step in range(1, 6):
        left.copy(step % 2, step, nbytes=1_000 * step)
    left.survivor.passed(7, 1)
    survival = commit(left.remains, SYSTEM)
    assert survival is not None
    assert (survival.step, survival.died_at, survival.exact, survival.trouble) == (5, 7, True, "")
    assert left.committed() == [(5, SaveReason.SURVIVOR)]
    loaded = left.store.load(left.store.list()[0], NUMPY).states
    assert loaded["rest"] == {"step": 5, "text": "x" * 5}
    assert (loaded["model"]["w"] == np.full(5_000, 5, np.uint8)).all()  # type: ignore[index]
    again = commit(left.remains, SYSTEM)
    assert again is not None
    assert again.path is None
    assert len(left.committed()) == 1


def test_a_checkpoint_that_is_as_new_needs_no_survivor(left: Left) -> None:
    """Nothing is committed where the training had committed that step, or a later one, itself."""
    snapshot = left.copy(0, 4)
    left.store.commit(snapshot, replace(FACTS, step=4))
    commit(left.remains, SYSTEM)
    assert left.committed() == [(4, SaveReason.PERIODIC)]


def test_a_half_that_was_being_written_is_not_taken(left: Left) -> None:
    """Death in the middle of a copy leaves the copy before it."""
    left.copy(0, 1)
    left.copy(1, 2)
    left.survivor.wipe(0)
    arena = capture({"model": {"w": np.full(4096, 9, np.uint8)}}, NUMPY)
    arena.staged(left.survivor.halves[0])  # and then it died
    commit(left.remains, SYSTEM)
    assert left.committed() == [(2, SaveReason.SURVIVOR)]


def _first_array(left: Left, half: int) -> int:
    """Where in the memory the array of a half lies."""
    arena = left.survivor.halves[half]._arenas["model", "numpy"]
    from backprop_core.checkpoints.memory import address_of

    offset = left.memory.offset_of(address_of(arena), 1)
    assert offset is not None
    return offset


def test_memory_that_was_scribbled_over_is_refused(left: Left) -> None:
    """One changed byte of an array costs that copy: the older one is committed, and the refusal is said."""
    left.copy(0, 1)
    left.copy(1, 2)
    left.spoil(_first_array(left, 1) + 100, b"\xff")
    survival = commit(left.remains, SYSTEM)
    assert survival is not None
    assert survival.step == 1
    assert "has changed since it was sealed" in survival.trouble
    assert left.committed() == [(1, SaveReason.SURVIVOR)]
    assert [path.name for path in left.store.directory.iterdir()] == ["step-000000000001"]


def test_any_changed_byte_of_header_or_description_is_refused(left: Left) -> None:
    """Whichever byte of what describes the only copy is changed: it is not committed, or it is committed whole."""
    left.copy(0, 3)
    (record,) = survivor_header.records(left.memory.fd)
    size = os.fstat(left.memory.fd).st_size
    whole = os.pread(left.memory.fd, size, 0)
    places = [*range(64, 64 + 56), *range(record.offset, record.offset + record.nbytes, 37)]
    for place in places:
        left.spoil(place, bytes([whole[place] ^ 0x41]))
        commit(left.remains, SYSTEM)
        assert left.committed() == [], place
        left.spoil(place, whole[place : place + 1])
    commit(left.remains, SYSTEM)
    assert left.committed() == [(3, SaveReason.SURVIVOR)]


def _forge(left: Left, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description, and give it the digests that fit."""
    (record,) = survivor_header.records(left.memory.fd)
    fields = json.loads(os.pread(left.memory.fd, record.nbytes, record.offset))
    change(fields)
    text = json.dumps(fields).encode()
    offset = os.fstat(left.memory.fd).st_size
    left.spoil(offset, text)
    digest = survivor_header.digest_of(text)
    survivor_header.seal(left.memory.header, 0, survivor_header.Record(9, offset, len(text), digest))


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a span outside the memory": lambda f: f["files"]["model.safetensors"].append([1 << 50, 1]),
    "a span before the memory": lambda f: f["files"]["model.safetensors"].insert(0, [-5, 5]),
    "a size that lies": lambda f: f["files"]["model.safetensors"].pop(),
    "a name that leads out": lambda f: f["files"].update({"../evil": f["files"].pop("model.json")}),
    "no files": lambda f: f.update(files=None),
    "spans that are no numbers": lambda f: f["files"].update({"model.json": [["0", "1"]]}),
    "no manifest": lambda f: f.update(manifest=7),
    "a manifest of nothing": lambda f: f.update(manifest="{}"),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_description_is_refused(left: Left, change: Callable[[dict[str, Any]], object]) -> None:
    """Digests that fit are no trust: sizes, names and places that lie are refused, and nothing is written."""
    left.copy(0, 3)
    _forge(left, change)
    survival = commit(left.remains, SYSTEM)
    assert survival is not None
    assert survival.path is None
    assert "refused" in survival.trouble
    assert left.committed() == []


def test_another_runs_memory_is_refused(left: Left) -> None:
    """A copy of another run, or of another attempt of this one, is not committed here."""
    left.copy(0, 3)
    for owner in (
        MemoryOwner("other", 1, str(left.store.directory)),
        MemoryOwner("run", 2, str(left.store.directory)),
    ):
        survival = commit(Remains(left.remains.fd, owner), SYSTEM)
        assert survival is not None
        assert "refused" in survival.trouble
    assert left.committed() == []


def test_memory_that_has_shrunk_is_refused(left: Left) -> None:
    """A script that cuts its own memory off costs that copy; nobody who reads it is killed for that."""
    left.copy(0, 3)
    os.ftruncate(left.memory.fd, _first_array(left, 0) + 10)
    survival = commit(left.remains, SYSTEM)
    assert survival is None or survival.path is None
    assert left.committed() == []


def test_a_disk_that_is_full_is_said(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    """A survivor that cannot be written is a sentence, and no error of whoever commits it."""
    left.copy(0, 3)
    left.store.directory.write_text("in the way", encoding="utf-8")
    survival = commit(left.remains, SYSTEM)
    assert survival is not None
    assert "could not be saved" in survival.trouble


def test_what_is_given_up_is_given_back(left: Left) -> None:
    """The pages of a half that is given up, and of one that was outgrown, go back to the system."""
    left.copy(0, 1, nbytes=8 << 20)
    left.copy(1, 2, nbytes=8 << 20)
    held = os.fstat(left.memory.fd).st_blocks * 512
    left.copy(0, 3, nbytes=12 << 20)
    assert os.fstat(left.memory.fd).st_blocks * 512 < held + (6 << 20)
    left.survivor.give_up(0)
    left.survivor.give_up(1)
    assert os.fstat(left.memory.fd).st_blocks * 512 < 1 << 20
    assert commit(left.remains, SYSTEM) is None


def test_the_second_copy_is_given_up_first_where_memory_is_short(left: Left) -> None:
    """With little memory free one copy is kept, and that is said; it still survives, except while it is renewed."""
    left.copy(0, 1, nbytes=8 << 20)
    left.copy(1, 2, nbytes=8 << 20)
    assert left.survivor.choose([0, 1]) == 0
    left.free = 1 << 30
    left.clock.advance(10.0)
    left.survivor.economize([0, 1])
    assert "one copy of the state is kept" in left.survivor.notes[0]
    assert os.fstat(left.memory.fd).st_blocks * 512 < 10 << 20
    assert left.survivor.choose([0, 1]) == 1
    commit(left.remains, SYSTEM)
    assert left.committed() == [(2, SaveReason.SURVIVOR)]


def test_whoever_reads_a_copy_lets_go_before_its_memory_goes(left: Left) -> None:
    """The older copy goes, once, when the guard has let go of it, and not while one is read; the newer stays whole."""
    left.copy(0, 1, nbytes=8 << 20)
    left.copy(1, 2, nbytes=8 << 20)
    seen: list[int] = []
    left.free = 1 << 30
    left.clock.advance(10.0)
    assert not left.survivor.economize([1], lambda: seen.append(-1)), "the writer reads the other"

    def let_go() -> None:
        seen.append(os.fstat(left.memory.fd).st_blocks * 512 >> 20)

    assert left.survivor.economize([0, 1], let_go)
    assert seen == [16]
    assert os.fstat(left.memory.fd).st_blocks * 512 >> 20 == 8
    left.clock.advance(10.0)
    assert not left.survivor.economize([0, 1], let_go)
    assert len(seen) == 1
    commit(left.remains, SYSTEM)
    assert left.committed() == [(2, SaveReason.SURVIVOR)]


def test_no_memory_is_taken_for_a_second_copy_where_there_is_none(left: Left) -> None:
    """A state whose second copy would not leave enough free gets one from the start."""
    left.free = 3 << 30
    left.survivor.reserve(capture({"model": {"w": np.zeros(8 << 20, np.uint8)}}, NUMPY))
    assert len(left.survivor.notes) == 1
    assert 8 << 20 <= os.fstat(left.memory.fd).st_blocks * 512 < 10 << 20
    assert left.survivor.choose([0, 1]) == 0
    left.copy(0, 1)
    assert left.survivor.choose([0, 1]) == 0


def test_of_two_copies_one_is_always_whole(left: Left) -> None:
    """While the writer reads a copy that is not sealed, the other one is left alone; else the older one goes."""
    left.copy(0, 1)
    left.survivor.wipe(1)
    assert left.survivor.choose([0]) is None
    assert left.survivor.choose([0, 1]) == 1
    left.copy(1, 2)
    assert left.survivor.choose([0, 1]) == 0
    assert left.survivor.choose([1]) == 1
