"""(e) Flipped bytes, truncations and swapped files."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.errors import CheckpointDamagedError
from backprop_core.testing.checkpoint_places import BLOBS
from backprop_core.testing.clock import FakeClock

from .saving import facts, plain, snapshot, states


def flip(rng: random.Random, path: Path, other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def truncate(rng: random.Random, path: Path, other: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def zero_a_sector(rng: random.Random, path: Path, other: Path) -> None:
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data))
    if not any(data[start : start + 512]):
        data[start] = 1
    else:
        data[start : start + 512] = bytes(len(data[start : start + 512]))
    path.write_bytes(data)


def append(rng: random.Random, path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 20)))


def swap(rng: random.Random, path: Path, other: Path) -> None:
    """The file of the same name from another checkpoint, or another file of this one."""
    source = (
        other / path.name
        if rng.random() < 0.5
        else rng.choice([p for p in path.parent.iterdir() if p != path])
    )
    if path.name == "manifest.json":
        source = other / "model.json"  # another whole manifest vouches for other files: the next test
    shutil.copyfile(source, path)


def remove(rng: random.Random, path: Path, other: Path) -> None:
    path.unlink()


HARMS: list[Callable[[random.Random, Path, Path], None]] = [
    flip,
    flip,
    flip,
    truncate,
    zero_a_sector,
    append,
    swap,
    remove,
]


def assert_all_noticed(folder: Path, count: int) -> None:
    """Damage a checkpoint `count` times in random ways; each time it must be refused and the older one restored."""
    rng = random.Random(4)
    store = CheckpointStore(folder, clock=FakeClock())
    older, newer = (store.commit(snapshot(step), facts(step)) for step in (1, 2))
    whole = {path.name: path.read_bytes() for path in newer.path.iterdir()}
    for number in range(count):
        path = newer.path / rng.choice(sorted(whole))
        harm = rng.choice(HARMS)
        harm(rng, path, older.path)
        if path.exists() and path.read_bytes() == whole[path.name]:
            continue
        what = f"{number}: {harm.__name__} {path.name}"
        assert store.verify(newer), what
        with pytest.raises(CheckpointDamagedError):
            store.load(newer, BLOBS)
        if number % 10 == 0:
            told: list[str] = []
            loaded = store.load_newest(BLOBS, told=told.append)
            assert loaded is not None
            assert plain(loaded.states) == plain(states(1)), what
            assert len(told) == 1, what
            shutil.rmtree(newer.path.with_name(f"damaged-{newer.path.name}"))
            newer.path.mkdir()
        for name, content in whole.items():
            (newer.path / name).write_bytes(content)
    assert store.verify(newer) == []


@pytest.mark.faults
def test_a_thousand_damages_are_all_noticed(tmp_path: Path) -> None:
    """1,000 flips, truncations, zeroed sectors, additions, swaps and removals: none loads, none goes unnoticed."""
    assert_all_noticed(tmp_path, 1000)


def test_damages_are_noticed(tmp_path: Path) -> None:
    """A hundred of them, fast enough for every day."""
    assert_all_noticed(tmp_path, 100)


def test_a_manifest_of_another_checkpoint_does_not_fit(tmp_path: Path) -> None:
    """Whole manifests swapped between two checkpoints vouch for the wrong files: both are refused."""
    store = CheckpointStore(tmp_path, clock=FakeClock())
    first, second = (store.commit(snapshot(step), facts(step)).path / "manifest.json" for step in (1, 2))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert store.load_newest(BLOBS, told=lambda sentence: None) is None
