"""(d) The power goes: every prefix of what saves do, with all that was not yet certain dropped or reordered."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.testing.checkpoint_places import BLOBS
from backprop_core.testing.clock import FakeClock

from .crash_model import Operation, Recorder, crash_states, materialise
from .saving import facts, plain, snapshot, states, store_at


def recorded_saves(folder: Path, steps: range) -> Recorder:
    """Save these steps, one after the other, retention included."""
    recorder = Recorder(str(folder))
    store_at(folder / "checkpoints", FakeClock()).commit(snapshot(0), facts(0))
    shutil.rmtree(folder / "checkpoints")
    store = store_at(folder / "checkpoints", FakeClock())
    with recorder.recording():
        for step in steps:
            store.commit(snapshot(step), facts(step))
            recorder.note(str(step))
    return recorder


def replay(
    recorder: Recorder, scratch: Path, *, samples: int, stride: int = 1, begin: int = 0
) -> tuple[int, list[str]]:
    """Restore from every state the disk may be in after every prefix; how many there were, and what was lost."""
    rng = random.Random(20261123)
    count, losses = 0, []
    place = scratch / "disk"
    for end in range(begin, len(recorder.operations) + 1, stride):
        done = recorder.operations[:end]
        promised = max((int(op.path) for op in done if op.kind == "note"), default=0)
        for state in crash_states(done, rng, samples):
            count += 1
            materialise(state, recorder.root, place)
            store = CheckpointStore(place / "checkpoints", clock=FakeClock())
            told: list[str] = []
            loaded = store.load_newest(BLOBS, told=told.append)
            found = 0 if loaded is None else loaded.info.step
            if told or found < promised:
                losses.append(f"after {end} operations: step {found} of {promised}; {told}")
            elif loaded is not None and plain(loaded.states) != plain(states(found)):
                losses.append(f"after {end} operations: step {found} has other content")
            shutil.rmtree(place)
    return count, losses


@pytest.mark.faults
def test_power_loss_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """Four saves with retention: from every state the disk may be left in, the newest promised checkpoint comes back."""
    recorder = recorded_saves(tmp_path, range(1, 5))
    count, losses = replay(recorder, tmp_path, samples=20)
    print(f"{len(recorder.operations)} operations, {count} states of the disk")
    assert count > 2000
    assert losses == []


def test_power_loss_at_some_moments_loses_nothing(tmp_path: Path) -> None:
    """The same with every fourth prefix from the second save on, fast enough for every day; the third links a file."""
    recorder = recorded_saves(tmp_path, range(1, 4))
    assert [op.path for op in recorder.operations if op.kind == "link"]
    begin = recorder.operations.index(Operation("note", "1"))
    count, losses = replay(recorder, tmp_path, samples=2, stride=4, begin=begin)
    assert count > 100
    assert losses == []


@pytest.mark.parametrize("forgotten", ["files", "folders"])
def test_the_simulation_notices_a_forgotten_fsync(tmp_path: Path, forgotten: str) -> None:
    """A store that does not flush its files, or its folders, is caught: the simulation has teeth."""
    recorder = recorded_saves(tmp_path, range(1, 3))
    recorder.operations = [
        op
        for op in recorder.operations
        if op.kind != "fsync" or _is_file(op.path) is (forgotten == "folders")
    ]
    _, losses = replay(recorder, tmp_path, samples=2, stride=3)
    assert losses


def _is_file(path: str) -> bool:
    return Path(path).suffix in (".json", ".safetensors")
