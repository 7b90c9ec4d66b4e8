"""What has not changed since the last checkpoint: found, believed by its digest alone, and shared."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch

from backprop_core.checkpoints import StagingBuffers, capture, unchanged
from backprop_core.checkpoints.memory import read_memory
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.checkpoints.unchanged import ChangedMeanwhileError, Unchanged, Worth
from backprop_core.errors import CheckpointWriteError
from backprop_core.export import export_checkpoint
from backprop_core.outcome import SaveReason
from backprop_torch.translator import TorchTranslator

from .states import NUMPY, facts, store_at

TORCH = (TorchTranslator(),)
BASE = 64_000


class Adapted:
    """A model of a frozen base and a trained part, and a teacher in which nothing changes, saved step by step."""

    def __init__(self, folder: Path, *, keep: int = 10) -> None:
        self.store = self.fresh_store(folder, keep=keep)
        self.base = np.arange(BASE, dtype=np.float32)
        self.trained = np.zeros(2000, np.float32)
        self.teacher = np.ones(5000, np.float32)
        self.buffers = StagingBuffers(NUMPY)
        self.step = 0

    def fresh_store(self, folder: Path, keep: int = 10) -> CheckpointStore:
        """As another process opens it."""
        return store_at(folder, keep=keep, unchanged=Unchanged(Worth(array_bytes=1000, file_bytes=10_000)))

    def snapshot(self) -> Any:
        model = {"base": self.base, "trained": self.trained, "bias": np.ones(3, np.float32)}
        return capture({"model": model, "teacher": {"w": self.teacher}}, NUMPY)

    def staged(self) -> Any:
        """As for a periodic save: what looks unchanged is left where it lies."""
        return self.snapshot().staged(self.buffers, unchanged=self.store.unchanged)

    def train(self) -> None:
        self.step += 1
        self.trained[:] = self.step

    def save(self, snapshot: Any = None) -> Any:
        return self.store.commit(self.snapshot() if snapshot is None else snapshot, facts(self.step))

    def saved(self, steps: int) -> list[Any]:
        """Periodic saves of so many steps."""
        infos = []
        for _ in range(steps):
            self.train()
            infos.append(self.save(self.staged()))
        return infos

    def check(self, info: Any) -> None:
        """The checkpoint is what is in memory now."""
        assert self.store.verify(info) == []
        states: Any = self.store.load(info, NUMPY).states
        for name in ("base", "trained"):
            assert states["model"][name].tobytes() == getattr(self, name).tobytes(), name
        assert states["teacher"]["w"].tobytes() == self.teacher.tobytes()


@pytest.fixture(autouse=True)
def samples_at_known_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process looks at other places; here no test is to depend on that."""
    monkeypatch.setattr(unchanged, "_OFFSET", 0)


@pytest.fixture
def adapted(tmp_path: Path) -> Adapted:
    return Adapted(tmp_path / "checkpoints")


def links(info: Any, file: str) -> int:
    return int((info.path / file).stat().st_nlink)


def test_what_stays_is_written_once_and_every_checkpoint_is_whole_alone(adapted: Adapted) -> None:
    """Base and teacher are one file on the disk each, and the last checkpoint is whole when all others are gone."""
    infos = adapted.saved(5)
    assert links(infos[4], "model~unchanged.safetensors") == 4  # parted by the second save
    assert links(infos[4], "teacher.safetensors") == 5
    assert links(infos[4], "model.safetensors") == 1
    for info in infos[:4]:
        shutil.rmtree(info.path)
    adapted.check(infos[4])
    with safetensors.safe_open(infos[4].path / "model.safetensors", "numpy") as opened:
        assert set(opened.keys()) == {"trained", "bias"}


def test_what_is_left_in_place_is_not_copied(adapted: Adapted) -> None:
    """From the third save on nothing but the trained part is copied at the boundary."""
    for count in range(5):
        adapted.train()
        staged = adapted.staged()
        left = {name: set(state.in_place) for name, state in staged.objects.items()}
        expected = {"model": {"base"} if count > 1 else set(), "teacher": {"w"} if count > 1 else set()}
        assert left == expected, count
        adapted.check(adapted.save(staged))


def test_a_change_after_the_boundary_is_seen_and_the_save_repeated(adapted: Adapted) -> None:
    """A base that is changed between the boundary and the writer's look costs that save, never a mixed checkpoint."""
    adapted.saved(4)
    adapted.train()
    staged = adapted.staged()
    adapted.base[BASE - 1] += 1
    with pytest.raises(ChangedMeanwhileError) as raised:
        adapted.save(staged)
    assert raised.value.reason is SaveReason.PERIODIC
    assert [info.step for info in adapted.store.list()] == [4, 3, 2, 1]
    again = adapted.staged()
    assert not again.objects["model"].in_place
    adapted.base[0] = -1  # a copy was made: this comes too late for it
    info = adapted.save(again)
    adapted.base[0] = 0
    adapted.check(info)


def test_a_change_that_no_sample_shows_is_saved(adapted: Adapted) -> None:
    """One element that was changed behind everybody's back is in the next save at once, and in every later one."""
    adapted.saved(4)
    for place in range(0, BASE, 7001):
        adapted.base[place] += 0.5
        adapted.train()
        adapted.check(adapted.save())


def test_a_version_that_says_nothing_is_not_believed(tmp_path: Path) -> None:
    """What is written past torch's version counter is found by its digest, and what the counter shows at the boundary."""
    store = store_at(tmp_path, keep=10, unchanged=Unchanged(Worth(array_bytes=1000, file_bytes=10_000)))
    base, trained, buffers = torch.zeros(BASE), torch.zeros(2000), StagingBuffers(TORCH)

    def save(step: int) -> Any:
        trained.fill_(step)
        states = {"model": {"base": base, "trained": trained}}
        staged = capture(states, TORCH).staged(buffers, unchanged=store.unchanged)
        left.append(bool(staged.objects["model"].in_place))
        return store.load(store.commit(staged, facts(step)), TORCH).states["model"]

    left: list[bool] = []
    for step in (1, 2, 3):
        save(step)
    base.data[5] = 1.0
    assert base._version == 0
    with pytest.raises(ChangedMeanwhileError):
        save(4)
    assert save(5)["base"][5] == 1
    for step in (6, 7, 8):
        save(step)
    base[6] = 2.0
    assert base._version == 1
    assert save(9)["base"][6] == 2
    assert left == [False, False, True, True, False, False, True, True, False]


def test_memory_that_was_given_back_is_no_crash(adapted: Adapted) -> None:
    """torch's `resize_` frees memory although somebody holds the tensor: the save fails and is repeated."""
    adapted.saved(3)
    freed = mmap.mmap(-1, adapted.base.nbytes)
    np.frombuffer(freed, np.float32)[:] = adapted.base
    address = ctypes.addressof(ctypes.c_char.from_buffer(freed))
    assert b"".join(bytes(piece) for piece in read_memory(address, len(freed))) == adapted.base.tobytes()
    freed.close()
    with pytest.raises(OSError, match=r"\[Errno"):
        list(read_memory(address, adapted.base.nbytes))
    # So large that malloc() maps it and free() gives it back, unless the heap has that much to spare from tests before.
    ctypes.CDLL(None).malloc_trim(0)
    tensor = torch.ones(9_000_000)
    store = store_at(adapted.store.directory / "torch")
    buffers = StagingBuffers(TORCH)

    def staged() -> Any:
        return capture({"model": {"w": tensor}}, TORCH).staged(buffers, unchanged=store.unchanged)

    for step in (1, 2):
        store.commit(staged(), facts(step))
    snapshot = staged()
    assert snapshot.objects["model"].in_place
    tensor.untyped_storage().resize_(0)  # refused if anything of ours had asked for an array over it
    with pytest.raises(ChangedMeanwhileError):
        store.commit(snapshot, facts(3))


def test_where_no_file_has_two_names_everything_is_written(
    adapted: Adapted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without hard links gets whole copies, and is not asked again; what is left in place stays checked."""
    asked: list[object] = []

    def refused(*names: object) -> None:
        asked.append(names)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    infos = adapted.saved(5)
    assert len(asked) == 1
    assert [info.linked_nbytes for info in infos] == [0] * 5
    adapted.check(infos[4])
    adapted.train()
    staged = adapted.staged()
    adapted.base[3] = -3
    if staged.objects["model"].in_place:
        with pytest.raises(ChangedMeanwhileError):
            adapted.save(staged)
    adapted.check(adapted.save())


def test_a_damaged_shared_file_is_found_and_written_anew(tmp_path: Path) -> None:
    """The file that checkpoints share goes bad on the disk: the save that finds it says so, and the next shares nothing."""
    adapted = Adapted(tmp_path / "checkpoints", keep=2)
    infos = adapted.saved(4)
    with (infos[3].path / "model~unchanged.safetensors").open("r+b") as file:
        file.seek(BASE)
        file.write(b"\xff")
    adapted.train()
    with pytest.raises(CheckpointWriteError, match="damaged while it was written"):
        adapted.save()
    adapted.train()
    info = adapted.save()
    assert info.linked_nbytes == 0
    adapted.check(info)


def test_a_new_process_goes_on_sharing(adapted: Adapted) -> None:
    """The first save after a resume writes the trained part alone."""
    adapted.saved(3)
    adapted.store = adapted.fresh_store(adapted.store.directory)
    adapted.train()
    info = adapted.save(adapted.staged())
    assert links(info, "model~unchanged.safetensors") == 3
    adapted.check(info)


def test_a_base_that_thaws_layer_by_layer_is_saved_right(adapted: Adapted) -> None:
    """Arrays come to those that stay and leave them; every save is what was in memory, and nothing is repeated for ever."""
    rng = np.random.default_rng(0)
    layers = {f"layer{n}": np.zeros(4000, np.float32) for n in range(6)}
    repeated = 0
    for step in range(1, 60):
        for layer in layers.values():
            if rng.random() < 0.15:
                layer[rng.integers(4000)] += 1
        for _ in range(3):
            staged = capture({"model": layers}, NUMPY).staged(
                adapted.buffers, unchanged=adapted.store.unchanged
            )
            try:
                info = adapted.store.commit(staged, facts(step))
                break
            except ChangedMeanwhileError:
                repeated += 1
        else:
            pytest.fail(f"step {step} was not saved")
        states: Any = adapted.store.load(info, NUMPY).states["model"]
        assert all(states[name].tobytes() == layers[name].tobytes() for name in layers), step
    assert repeated < 30  # each layer is believed half as often after each time


def test_what_is_exported_is_one_file(adapted: Adapted, tmp_path: Path) -> None:
    """Who exports a checkpoint gets the whole model in one safetensors file, and the one for torch as well."""
    info = adapted.saved(3)[2]
    export_checkpoint(info, tmp_path / "out")
    model = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    assert set(model) == {"base", "trained", "bias"}
    assert model["base"].tobytes() == adapted.base.tobytes()
    assert set(torch.load(tmp_path / "out" / "model.pt", weights_only=True)) == set(model)
