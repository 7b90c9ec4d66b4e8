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
from backprop_core.clock import SYSTEM
from backprop_core.governor.survivor_commit import Remains, commit
from backprop_core.outcome import SaveReason
from backprop_core.runs.handover import MemoryOwner
from backprop_core.session.survivor import READ_AT, Survivor
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


def test_a_change_without_any_sign_is_found_by_reading_on(adapted: Adapted) -> None:
    """One word past the count, which a look misses: no copy with it stands, and the array is copied from then on."""
    for _ in range(5):
        adapted.copy()
    held = adapted.survivor.halves[0].held
    index = LARGE // 2
    address = adapted.base["base.1"].data_ptr()
    words = held_copies.view_at(address, 4 * LARGE).cast("f")
    while True:  # until a look has missed it: 64 of 100,000 words are looked at
        words[index] = 7.5
        kept = adapted.copy().kept
        if "base.1" in kept.get("model", {}):
            break
        for _ in range(3):
            adapted.copy()
    assert adapted.survivor.sealed_step is None
    assert commit(adapted.remains, SYSTEM) is None
    for _ in range(4):
        assert "base.1" not in adapted.copy().kept.get("model", {})
        assert float(adapted.base["base.1"][index]) == 7.5
    assert held.doubts == {("model", "base.1"): None}
    adapted.commit()


def test_a_change_behind_the_boundary_costs_no_trust(adapted: Adapted) -> None:
    """A layer thaws before its copy has been read: no copy stands, another one is asked for, and later it is held again."""
    for _ in range(5):
        adapted.copy()
    adapted.copy(behind=lambda: _in_place(adapted))
    assert adapted.survivor.discarded
    assert commit(adapted.remains, SYSTEM) is None
    assert "base.1" not in adapted.copy().kept["model"]
    adapted.commit()
    for _ in range(2):
        adapted.copy()
    assert "base.1" in adapted.copy().kept["model"]
    assert adapted.survivor.halves[1].held.doubts == {}


def test_reading_on_comes_round(adapted: Adapted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some bytes at each copy: after a while all have been compared since the first copy, and the facts say since when."""
    monkeypatch.setattr(held_copies, "_READ_ON_BYTES", 500_000)
    for _ in range(40):
        adapted.copy()
    read_at = adapted.commit()["extra"][READ_AT]
    assert 20 <= read_at < 40


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
