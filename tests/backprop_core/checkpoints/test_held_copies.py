"""Copies in memory that are taken again, and what makes them be made anew."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backprop_core.checkpoints import held_copies, survivor_header
from backprop_core.checkpoints.codec import Snapshot, capture
from backprop_core.checkpoints.manifest import CheckpointFacts
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.shared_memory import SharedMemory
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.checkpoints.survivor_header import READ_AT
from backprop_core.clock import SYSTEM
from backprop_core.deadline.forecast import Forecast
from backprop_core.errors import CheckpointWriteError
from backprop_core.governor.survivor_commit import Remains, commit
from backprop_core.outcome import SaveReason
from backprop_core.runs.handover import MemoryOwner
from backprop_core.session import survivor as survivors
from backprop_core.session.saver import Saver
from backprop_core.session.survivor import Survivor
from backprop_core.testing.clock import FakeClock
from backprop_torch.translator import TorchTranslator

BOTH = (TorchTranslator(), NumpyTranslator())
FACTS = CheckpointFacts("run", 1, 0, None, 0, SaveReason.PERIODIC)
LARGE = 200_000
"""Elements of a float32 array that is worth holding."""


class _NoLine:
    def close(self) -> None: ...


class Adapted:
    """A training of which a base is frozen, and its two halves of memory."""

    def __init__(self, folder: Path) -> None:
        self.memory = SharedMemory()
        survivor_header.begin(self.memory.header)
        self.survivor = Survivor(self.memory, _NoLine(), BOTH, SYSTEM)  # type: ignore[arg-type]
        self.store = CheckpointStore(folder, clock=SYSTEM)
        self.remains = Remains(os.dup(self.memory.fd), MemoryOwner("run", 1, str(folder)))
        self.base = {f"base.{n}": torch.randn(LARGE) for n in range(3)}
        self.adapter = torch.zeros(1000)
        self.teacher = torch.randn(LARGE)
        self.table = np.zeros(LARGE, np.float32)
        self.step = 0

    def states(self) -> dict[str, Any]:
        return {
            "model": {**self.base, "adapter": self.adapter},
            "teacher": {"w": self.teacher},
            "table": {"rows": self.table, "step": self.step},
        }

    def copy(self, *, keep: bool = True, behind: Callable[[], None] = lambda: None) -> Snapshot:
        """One step, a copy of it in the half that is older, and what training does `behind` that boundary."""
        self.step += 1
        self.adapter += 1
        half = self.survivor.choose([0, 1])
        assert half is not None
        self.survivor.wipe(half)
        buffers = self.survivor.halves[half]
        snapshot = capture(self.states(), BOTH).staged(buffers, step=self.step, keep=keep)
        behind()
        self.survivor.seal(half, snapshot, replace(FACTS, step=self.step))
        self.survivor.settle()
        return snapshot

    def commit(self) -> dict[str, Any]:
        """What the governor makes of it, verified; its facts."""
        survival = commit(self.remains, SYSTEM)
        assert survival is not None
        assert survival.trouble == ""
        info = self.store.list()[0]
        assert info.step == self.step
        assert self.store.verify(info) == []
        loaded = self.store.load(info, BOTH).states
        for name, state in self.states().items():
            for key, value in state.items():
                assert np.array_equal(np.asarray(loaded[name][key]), np.asarray(value)), (name, key)  # type: ignore[index]
        facts: dict[str, Any] = json.loads((info.path / "manifest.json").read_text())
        return facts


@pytest.fixture
def adapted(tmp_path: Path) -> Adapted:
    return Adapted(tmp_path / "checkpoints")


def test_what_is_frozen_is_copied_once_into_each_half(adapted: Adapted) -> None:
    """From the third copy on only the adapter and arrays without a count of changes are copied; the checkpoint is whole."""
    assert adapted.copy().kept == {}
    assert adapted.copy().kept == {}
    for _ in range(4):
        kept = adapted.copy().kept
        assert {name: set(keys) for name, keys in kept.items()} == {
            "model": set(adapted.base),
            "teacher": {"w"},
        }
    manifest = adapted.commit()
    assert manifest["extra"][READ_AT] in range(1, 7)
    assert manifest["objects"]["model"]["unchanged_arrays"] == "model~unchanged.safetensors"
    assert (adapted.store.list()[0].path / "model.safetensors").stat().st_size < 10_000


def test_a_file_of_earlier_copies_is_hashed_once(adapted: Adapted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at each copy: the digest of what lies there is known, until the copy is another one."""
    from backprop_core.session import survivor

    hashed: list[int] = []
    real = survivor.digest_of_all

    def counting(chunks: Any) -> str:
        pieces = list(chunks)
        hashed.append(sum(map(len, pieces)))
        return real(pieces)

    monkeypatch.setattr(survivor, "digest_of_all", counting)
    for _ in range(4):
        adapted.copy()
    hashed.clear()
    adapted.copy()
    assert sum(hashed) < adapted.table.nbytes + 20_000
    adapted.base["base.1"].add_(1)
    hashed.clear()
    adapted.copy()
    assert sum(hashed) > 2 * adapted.table.nbytes


def _in_place(adapted: Adapted) -> None:
    adapted.base["base.1"].add_(1)


def _moved(adapted: Adapted) -> None:
    adapted.base["base.1"] = adapted.base["base.1"].clone() + 1


def _past_the_count(adapted: Adapted) -> None:
    adapted.base["base.1"].data.mul_(2)  # which the count of changes does not see


def _another_shape(adapted: Adapted) -> None:
    adapted.base["base.1"] = adapted.base["base.1"].view(2, -1)


def _one_more(adapted: Adapted) -> None:
    adapted.base = {"base.new": torch.randn(LARGE), **adapted.base}


@pytest.mark.parametrize("change", [_in_place, _moved, _past_the_count, _another_shape, _one_more])
def test_what_changes_is_copied(adapted: Adapted, change: Any) -> None:
    """Whatever happens to a frozen array, the next copy holds what it is then; later it is held again."""
    for _ in range(5):
        adapted.copy()
    change(adapted)
    assert "base.1" not in adapted.copy().kept.get("model", {})
    adapted.commit()
    for _ in range(2):
        adapted.copy()
    assert "base.1" in adapted.copy().kept["model"]
    adapted.commit()


def _words(adapted: Adapted) -> memoryview:
    """The memory of one frozen array: what is written here no count of changes shows."""
    return held_copies.view_at(adapted.base["base.1"].data_ptr(), 4 * LARGE).cast("f")


def _write_unseen(adapted: Adapted) -> None:
    """Change one word until a look has missed it: 64 of 100,000 are looked at."""
    words, value = _words(adapted), 7.5
    while True:
        value += 1
        words[LARGE // 2] = value
        if "base.1" in adapted.copy().kept.get("model", {}):
            return
        for _ in range(3):
            adapted.copy()


def test_a_change_without_any_sign_is_found_before_the_seal(adapted: Adapted) -> None:
    """One word past the count, which a look misses: the copy before it stands, and the array is copied from then on."""
    for _ in range(5):
        adapted.copy()
    before = adapted.base["base.1"].clone()
    _write_unseen(adapted)
    assert adapted.survivor.discarded
    assert adapted.survivor.sealed_step == adapted.step - 1
    assert commit(adapted.remains, SYSTEM) is not None
    loaded: Any = adapted.store.load(adapted.store.list()[0], BOTH).states
    assert loaded["table"]["step"] == adapted.step - 1
    different = (loaded["model"]["base.1"] != before).nonzero().flatten().tolist()
    assert different in ([], [LARGE // 2])  # by a value that an earlier look did see
    for _ in range(4):
        assert "base.1" not in adapted.copy().kept.get("model", {})
    assert adapted.survivor.halves[0].held.trust.doubts == {("model", "base.1"): None}
    adapted.commit()


def test_who_writes_past_the_count_in_each_step_is_never_in_a_copy(
    adapted: Adapted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffer that numpy fills row by row: each copy that is sealed holds the step's own values, from the first one on."""
    _read_little(monkeypatch, 1_000)
    words = _words(adapted)
    given_up = 0
    for _ in range(12):
        words[adapted.step] = 100.0 + adapted.step
        adapted.copy()
        if adapted.survivor.discarded:
            given_up += 1
            adapted.survivor.discarded = False
        else:
            adapted.commit()
    assert given_up == 1
    assert adapted.survivor.halves[1].held.trust.doubts == {("model", "base.1"): None}


def _read_little(monkeypatch: pytest.MonkeyPatch, nbytes: int) -> None:
    monkeypatch.setattr(held_copies, "LEAST_READ_BYTES", nbytes)
    monkeypatch.setattr(held_copies, "READ_SHARE", 0.0)


def test_a_change_in_what_has_long_been_frozen_is_found_within_a_round(
    adapted: Adapted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the reading comes to it the facts say since when it is not proven; then no copy that may hold it is left."""
    _read_little(monkeypatch, 500_000)
    for _ in range(40):
        adapted.copy()
    _write_unseen(adapted)
    written_at = adapted.step
    while not adapted.survivor.discarded:
        survival = commit(adapted.remains, SYSTEM)
        assert survival is not None
        facts = json.loads((adapted.store.list()[0].path / "manifest.json").read_text())
        assert facts["extra"][READ_AT] < written_at
        assert survival.compared_at in (
            None,
            facts["extra"][READ_AT],
        )  # none where this one was committed before
        adapted.copy()
        assert adapted.step < written_at + 10
    assert adapted.survivor.sealed_step is None
    assert commit(adapted.remains, SYSTEM) is None
    adapted.copy()
    adapted.commit()


def test_a_change_behind_the_boundary_costs_no_trust(adapted: Adapted) -> None:
    """A layer thaws before its copy has been read: the copy before stands, another is asked for, later it is held again."""
    for _ in range(5):
        adapted.copy()
    adapted.copy(behind=lambda: _in_place(adapted))
    assert adapted.survivor.discarded
    assert adapted.survivor.sealed_step == adapted.step - 1
    assert "base.1" not in adapted.copy().kept["model"]
    adapted.commit()
    for _ in range(2):
        adapted.copy()
    assert "base.1" in adapted.copy().kept["model"]
    assert adapted.survivor.halves[1].held.trust.doubts == {}


def test_the_guard_saves_no_copy_that_was_given_up(adapted: Adapted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step hangs behind a boundary whose copy turned out to mix steps: the guard's checkpoint is refused, and says why."""
    monkeypatch.setattr(survivors, "AT_ONCE_BYTES", 0)
    saver = Saver(adapted.store, SYSTEM, Forecast(), BOTH, adapted.survivor)
    facts = FACTS

    def copied() -> Snapshot:
        nonlocal facts
        adapted.step += 1
        facts = replace(FACTS, step=adapted.step)
        snapshot = saver.copied(adapted.states(), facts, keep=True)
        adapted.survivor.settle()
        return snapshot

    for _ in range(5):
        snapshot = copied()
    assert "base.1" in snapshot.kept["model"]
    assert saver.commit_copy(snapshot, facts).step == 5
    words = _words(adapted)
    for value in range(100):
        words[LARGE // 2] = 100.0 + value
        snapshot = copied()
        if "base.1" in snapshot.kept["model"]:
            break
        for _ in range(3):
            copied()
    with pytest.raises(CheckpointWriteError, match="was not saved: an array that was taken for unchanged"):
        saver.commit_copy(snapshot, facts)


def test_reading_on_comes_round(adapted: Adapted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some bytes at each copy: after a while all have been compared since the first copy, and the facts say since when."""
    _read_little(monkeypatch, 500_000)
    for _ in range(40):
        adapted.copy()
    read_at = adapted.commit()["extra"][READ_AT]
    assert 20 <= read_at < 40


def test_more_is_read_where_more_time_goes_by(adapted: Adapted) -> None:
    """A hundredth of the time goes into reading, at the speed that was measured, whatever a copy's distance."""
    clock, asked = FakeClock(), []

    class Held:
        def compare(self, kept: object, step: int, most_bytes: int) -> tuple[bool, int]:
            asked.append(most_bytes)
            clock.advance(most_bytes / 1e9)
            return True, most_bytes

    compared = held_copies.Comparisons(clock)
    for _ in range(2):
        clock.advance(10.0)
        assert compared.are_right(Held(), {}, 1)  # type: ignore[arg-type]
    assert asked == [200_000_000, 100_000_000]


def test_a_copy_that_fails_is_not_held(adapted: Adapted) -> None:
    """An error in the middle of copying leaves an array half written: its earlier copy is not taken again."""
    for _ in range(4):
        adapted.copy()
    half = adapted.survivor.choose([0, 1])
    assert half is not None
    snapshot = capture(adapted.states(), BOTH)

    def fail(buffer: memoryview) -> None:
        buffer[:8] = b"scribble"
        raise RuntimeError("a device is gone")

    model = snapshot.objects["model"]
    broken = model.arrays["base.0"]._replace(address=0, copy_into=fail)
    snapshot = replace(snapshot, objects={"model": replace(model, arrays={**model.arrays, "base.0": broken})})
    adapted.survivor.wipe(half)
    with pytest.raises(RuntimeError):
        snapshot.staged(adapted.survivor.halves[half], step=9, keep=True)
    assert "base.0" not in adapted.copy().kept["model"]
    adapted.commit()


def test_near_the_deadline_every_byte_is_copied(adapted: Adapted) -> None:
    """Without `keep`, as for the guard's checkpoint, nothing is taken again; what is copied may be, later."""
    for _ in range(4):
        adapted.copy()
    assert adapted.copy(keep=False).kept == {}
    assert READ_AT not in adapted.commit()["extra"]
    adapted.copy()
    assert adapted.copy().kept
