"""The store on a real file system."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from backprop_core.checkpoints import CheckpointStore, capture
from backprop_core.checkpoints.files import PIECE_BYTES, pieces
from backprop_core.checkpoints.names import SAVING_PREFIX, TRASH_PREFIX, Owner
from backprop_core.errors import CheckpointDamagedError, CheckpointWriteError, StateMismatchError

from .states import NUMPY, assert_same, facts, small_snapshot, small_states, store_at


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    """States and facts are the same to the last bit after commit and load."""
    store = store_at(tmp_path / "deep" / "er")
    saved = store.commit(
        small_snapshot(4), facts(12, cursor={"epoch": 1, "nan": float("nan")}, extra={"t": (1, 2)})
    )
    assert saved.path == tmp_path / "deep" / "er" / "step-000000000012"
    loaded = store.load(saved, NUMPY)
    assert_same(loaded.states, small_states(4))
    assert_same(loaded.info.facts.cursor, {"epoch": 1, "nan": float("nan")})
    assert loaded.info.facts.extra == {"t": (1, 2)}
    assert loaded.info.facts == facts(12, cursor=loaded.info.facts.cursor, extra={"t": (1, 2)})
    assert store.verify(saved) == []
    assert sum(f.stat().st_size for f in saved.path.iterdir() if f.name != "manifest.json") == saved.nbytes


def test_the_ordinary_safetensors_loader_reads_the_model(tmp_path: Path) -> None:
    """model.safetensors opens with the safetensors library under the ordinary names; aliases are listed."""
    info = store_at(tmp_path).commit(small_snapshot(), facts(1))
    arrays = safetensors.numpy.load_file(info.path / "model.safetensors")
    assert set(arrays) == {"layer.weight", "layer.bias"}
    np.testing.assert_array_equal(arrays["layer.weight"], small_states()["model"]["layer.weight"])  # type: ignore[index]
    with safetensors.safe_open(info.path / "model.safetensors", "numpy") as opened:
        assert opened.metadata() == {"head.weight": "layer.weight", "format": "np"}


def test_loaded_arrays_are_writable_and_aligned(tmp_path: Path) -> None:
    """Zero-copy loading gives arrays that a framework can adopt as they are."""
    store = store_at(tmp_path)
    info = store.commit(
        capture({"x": {"a": np.ones(3, np.int8), "b": np.ones(5), "c": np.ones(1, "i2")}}, NUMPY), facts(1)
    )
    for array in store.load(info, NUMPY).states["x"].values():  # type: ignore[attr-defined]
        assert array.flags.aligned
        assert array.flags.writeable


def test_a_second_save_of_the_same_step_gets_a_name_of_its_own(tmp_path: Path) -> None:
    """A final save at the step of a periodic one replaces nothing; the later counts as newer."""
    store = store_at(tmp_path)
    paths = [store.commit(small_snapshot(n), facts(5), retain=False).path.name for n in range(3)]
    assert paths == ["step-000000000005", "step-000000000005.1", "step-000000000005.2"]
    assert [info.path.name for info in store.list()] == paths[::-1]


def test_the_newest_whole_one_is_loaded_and_damage_set_aside(tmp_path: Path) -> None:
    """A flipped bit in the newest sends it to quarantine, says so, and the one before it is restored."""
    store = store_at(tmp_path)
    for step in (1, 2, 3):
        store.commit(small_snapshot(step), facts(step), retain=False)
    flip(tmp_path / "step-000000000003" / "model.safetensors", -1)
    (tmp_path / "step-000000000002" / "manifest.json").unlink()
    told: list[str] = []
    loaded = store.load_newest(NUMPY, told=told.append)
    assert loaded is not None
    assert loaded.info.step == 1
    assert_same(loaded.states, small_states(1))
    assert len(told) == 2
    assert "step-000000000003/model.safetensors is damaged" in told[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "damaged-step-000000000002",
        "damaged-step-000000000003",
        "step-000000000001",
    ]


def test_large_files_are_read_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The states are the same as when read one by one, and damage is found in whichever file it is."""
    store = store_at(tmp_path)
    info = store.commit(small_snapshot(4), facts(1))
    monkeypatch.setattr("backprop_core.checkpoints.folder._LARGE_BYTES", 1)
    assert_same(store.load(info, NUMPY).states, small_states(4))
    for path in sorted(info.path.glob("*.safetensors")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(CheckpointDamagedError, match=path.name):
            store.load(info, NUMPY)
        path.unlink()
        with pytest.raises(CheckpointDamagedError, match="missing"):
            store.load(info, NUMPY)
        path.write_bytes(whole)
    assert_same(store.load(info, NUMPY).states, small_states(4))


def test_nothing_to_load_is_none(tmp_path: Path) -> None:
    """An empty or absent folder holds no checkpoint, and looking does not create it."""
    store = store_at(tmp_path / "none")
    assert store.load_newest(NUMPY, told=pytest.fail) is None
    assert store.list() == []
    store.sweep()
    assert not (tmp_path / "none").exists()


def test_a_missing_framework_is_no_damage(tmp_path: Path) -> None:
    """A checkpoint of a framework that is not in use is left where it is, not quarantined."""
    store = store_at(tmp_path)
    info = store.commit(small_snapshot(), facts(1))
    with pytest.raises(StateMismatchError, match="numpy"):
        store.load_newest((), told=pytest.fail)
    assert info.path.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "manifest.json", "optimizer.json"])
def test_every_changed_byte_is_noticed(tmp_path: Path, name: str) -> None:
    """A flipped bit anywhere, a truncation and an appended byte are found by verify and refused by load."""
    store = store_at(tmp_path)
    info = store.commit(small_snapshot(), facts(1))
    file = info.path / name
    whole = file.read_bytes()
    damage = [whole[:-1], whole + b" ", b""]
    for position in range(0, len(whole), max(1, len(whole) // 40)):
        damage.append(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    for changed in damage:
        file.write_bytes(changed)
        assert len(store.verify(info)) == 1
        with pytest.raises(CheckpointDamagedError):
            store.load(info, NUMPY)
    file.write_bytes(whole)
    assert store.verify(info) == []


def test_old_ones_go_only_after_the_new_one_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the new checkpoint reads back wrong, the save has failed and every older one is still there."""
    store = store_at(tmp_path)
    for step in (1, 2):
        store.commit(small_snapshot(step), facts(step))
    real_sync = os.fsync

    def damaging_sync(fd: int) -> None:
        real_sync(fd)
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.name == "model.safetensors":
            flip(path, -1)

    monkeypatch.setattr(os, "fsync", damaging_sync)
    with pytest.raises(CheckpointWriteError, match="damaged while it was written"):
        store.commit(small_snapshot(3), facts(3))
    monkeypatch.undo()
    assert [info.step for info in store.list()] == [2, 1]
    store.commit(small_snapshot(4), facts(4))
    assert [info.step for info in store.list()] == [4, 2]


def test_milestones_stay(tmp_path: Path) -> None:
    """keep_every keeps the first checkpoint at or after each multiple, besides the newest."""
    store = store_at(tmp_path, keep_every=10)
    for step in (4, 8, 12, 16, 20, 24, 28, 32, 36):
        store.commit(small_snapshot(), facts(step))
    assert [info.step for info in store.list()] == [36, 32, 20, 12]


def test_files_have_the_mode_that_the_umask_asks_for(tmp_path: Path) -> None:
    """Colleagues can read a checkpoint where the umask lets them: no 0600 from temporary files."""
    before = os.umask(0o027)
    try:
        info = store_at(tmp_path).commit(small_snapshot(), facts(1))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in info.path.iterdir()} == {0o640}


def test_object_names_never_leave_the_folder(tmp_path: Path) -> None:
    """Names of tracked objects are data: none of them builds a path, and all of them come back."""
    states: dict[str, object] = {name: np.full(2, n) for n, name in enumerate(ODD_NAMES)}
    store = store_at(tmp_path)
    info = store.commit(capture(states, NUMPY), facts(1))
    assert_same(store.load(info, NUMPY).states, states)
    assert {path.parent for path in tmp_path.rglob("*.json")} == {info.path}


ODD_NAMES = [
    "../x",
    "/etc/x",
    "manifest",
    "model",
    "Model",
    "",
    ".",
    "..",
    "a/b",
    "a b",
    "ü",
    "-x",
    "x" * 300,
    "a\n",
]


def test_a_failed_save_leaves_nothing_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error on fsync is a sentence with the reason, no half folder stays, and the next save succeeds."""
    import errno

    store = store_at(tmp_path)
    store.commit(small_snapshot(1), facts(1))

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointWriteError, match=r"step 2 was not saved .* the disk is full"):
        store.commit(small_snapshot(2), facts(2))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000000001"]
    assert store.commit(small_snapshot(3), facts(3)).step == 3


def test_a_save_that_cannot_fit_is_refused_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free space is looked at first; the message says how much is needed and how much there is."""
    real = os.statvfs(tmp_path)
    fields = list(real)
    fields[4] = 0  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
    with pytest.raises(CheckpointWriteError, match=r"needs 0\.0 MB, and only 0\.0 MB are free"):
        store_at(tmp_path).commit(small_snapshot(), facts(1))
    assert list(tmp_path.iterdir()) == []


def test_sweep_removes_only_what_dead_processes_of_ours_left(tmp_path: Path) -> None:
    """Folders of a live save, another machine or anybody else stay; a dead process's and trash go."""
    code = "from backprop_core.checkpoints.names import Owner; print(Owner.this_process().saving_folder())"
    dead = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    live = Owner.this_process().saving_folder()
    elsewhere = Owner("0" * 16, 1, 1).saving_folder()
    stay = {live, elsewhere, "step-000000000001", "somebody-else", SAVING_PREFIX + "odd"}
    for name in {dead, TRASH_PREFIX + "1", *stay}:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    os.utime(tmp_path / elsewhere)
    clock = store_at(tmp_path)._clock
    for path in (tmp_path / elsewhere, tmp_path / elsewhere / "file"):
        os.utime(path, (clock.wall() - 60, clock.wall() - 60))
    store_at(tmp_path).sweep()
    assert {path.name for path in tmp_path.iterdir()} == stay
    for path in (tmp_path / elsewhere / "file", tmp_path / elsewhere):
        os.utime(path, (clock.wall() - 7200, clock.wall() - 7200))
    store_at(tmp_path).sweep()
    assert {path.name for path in tmp_path.iterdir()} == stay - {elsewhere}


def test_importing_the_package_is_light() -> None:
    """The package itself imports neither numpy, torch, xxhash nor safetensors; the store not even numpy."""
    code = """
import sys, backprop_core.checkpoints as c
heavy = {'numpy', 'torch', 'xxhash', 'safetensors', 'psutil', 'fsspec'}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
c.CheckpointStore, c.Writer, c.capture, c.NumpyTranslator
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def flip(path: Path, position: int) -> None:
    """Flip the lowest bit of one byte of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_the_store_can_be_shared_by_threads(tmp_path: Path) -> None:
    """A deadline save and a periodic one at the same time: both are whole."""
    import threading

    store: CheckpointStore = store_at(tmp_path, keep=20)
    threads = [
        threading.Thread(target=lambda s=step: store.commit(small_snapshot(s), facts(s)))
        for step in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    infos: list[Any] = store.list()
    assert [info.step for info in infos] == list(range(8, 0, -1))
    assert all(store.verify(info) == [] for info in infos)


def test_a_vanished_folder_is_made_again(tmp_path: Path) -> None:
    """Somebody removes the whole directory while the run goes on: the next save has a place again."""
    store = store_at(tmp_path / "run" / "checkpoints")
    store.commit(small_snapshot(1), facts(1))
    shutil.rmtree(tmp_path / "run")
    store.commit(small_snapshot(2), facts(2))
    assert [info.step for info in store.list()] == [2]


def test_a_folder_that_vanishes_during_a_save_is_an_error_of_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory goes between writing and renaming: the save says so, and nothing else happens."""
    store = store_at(tmp_path / "checkpoints")
    store.commit(small_snapshot(1), facts(1))
    real = Path.rename

    def vanishing(path: Path, target: Path) -> Path:
        shutil.rmtree(tmp_path / "checkpoints")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", vanishing)
    with pytest.raises(CheckpointWriteError, match="the folder has vanished"):
        store.commit(small_snapshot(2), facts(2))
    assert store.list() == []


def test_a_device_that_fails_is_an_error_of_the_save(tmp_path: Path) -> None:
    """Whatever a translator raises while its arrays are read, the save fails with a sentence and leaves nothing."""

    def view() -> memoryview:
        raise TypeError("CUDA error: an illegal memory access was encountered")

    snapshot = small_snapshot()
    state = snapshot.objects["model"]
    broken = {name: dense._replace(view=view) for name, dense in state.arrays.items()}
    snapshot = replace(snapshot, objects={"model": replace(state, arrays=broken)})
    with pytest.raises(CheckpointWriteError, match=r"step 1 was not saved: CUDA error"):
        store_at(tmp_path).commit(snapshot, facts(1))
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 90_000), max_size=40))
def test_pieces_are_the_same_bytes(sizes: list[int]) -> None:
    """Small chunks are gathered and large ones cut, and nothing changes on the way."""
    rng = Random(5)
    chunks = [rng.randbytes(size) for size in sizes] + [b"x" * (PIECE_BYTES + 5)]
    found = [bytes(piece) for piece in pieces(chunks)]
    assert b"".join(found) == b"".join(chunks)
    assert all(0 < len(piece) <= PIECE_BYTES for piece in found)
