"""Memory runs short while a training has two copies of its state: one goes, the other is left alone for the kill to come."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backprop_core.checkpoints import Snapshot, survivor_header
from backprop_core.checkpoints import numpy_arrays as arrays
from backprop_core.checkpoints.shared_memory import SharedMemory
from backprop_core.clock import SYSTEM
from backprop_core.governor.survivor_commit import Remains, commit
from backprop_core.outcome import Outcome
from backprop_core.runs.handover import MemoryOwner
from backprop_core.session import survivor as survivors
from backprop_core.session.spare_memory import SpareMemory
from backprop_core.testing.clock import FakeClock
from tests.backprop_core.session.test_session import Box

GB = 1 << 30
TRANSLATORS = (arrays.NumpyTranslator(),)
COPY_S, STEP_S = 0.01, 0.1
"""So the share of the time allows a copy a second, every tenth step."""


class _NoLine:
    def close(self) -> None: ...


class Surviving:
    """A box whose copies another process holds too, on a machine whose free memory can be set."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, self.free = FakeClock(), 64 * GB
        memory = SharedMemory()
        survivor_header.begin(memory.header)
        self.fd, self.place = os.dup(memory.fd), home / "left"
        spare = SpareMemory(clock, lambda: (64 * GB, self.free))
        self.survivor = survivors.Survivor(memory, _NoLine(), TRANSLATORS, clock, spare)  # type: ignore[arg-type]
        monkeypatch.setattr(survivors, "join_survivor", lambda *_: self.survivor)
        self.box = Box(home, clock, governed_since=clock.monotonic())
        monkeypatch.setattr(self.box.training_state, "translators", TRANSLATORS)
        self.box.training_state.extra = np.zeros(1000)
        gather = self.box.training_state.states

        def states() -> Any:
            clock.advance(COPY_S)
            return gather()

        monkeypatch.setattr(self.box.training_state, "states", states)
        self.box.open()

    def train(self) -> int:
        """One step; its number."""
        self.box.train(1, STEP_S)
        reserving = self.box.session.saver._reserving
        if reserving is not None:
            reserving.join()
        return self.box.training_state.step

    def left(self) -> int | None:
        """The step that is left if the kernel kills the training now."""
        survival = commit(Remains(self.fd, MemoryOwner("counted", 1, str(self.place))), SYSTEM)
        return None if survival is None else survival.step


@pytest.fixture
def surviving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Surviving]:
    made = Surviving(tmp_path, monkeypatch)
    yield made
    made.box.session.guard.stop()
    os.close(made.fd)


@pytest.mark.parametrize("when", [4, 40])
def test_the_copy_that_is_left_is_not_renewed_at_once(surviving: Surviving, when: int) -> None:
    """Among the first copies, which follow quickly, and later: the newest stays whole until another is paid for."""
    while surviving.train() < when:
        pass
    surviving.free = GB
    while not surviving.survivor._given_up:
        newest = surviving.survivor.sealed_step
        given_up_at = surviving.train()
        assert given_up_at < when + 60
    assert newest is not None
    while (now := surviving.train()) < given_up_at + 9:
        assert surviving.survivor.sealed_step == newest, f"renewed at step {now}"
    assert surviving.left() == newest
    for _ in range(5):
        surviving.train()
    assert (surviving.survivor.sealed_step or 0) > newest


def _no_memory(self: object, nbytes: int) -> memoryview:
    raise MemoryError(f"{nbytes} bytes of memory are not available")


@pytest.mark.parametrize("governed", [False, True])
def test_no_memory_for_a_copy_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], governed: bool
) -> None:
    """Periodic checkpoints are made from where the state lies, the box ends in time, and training is said to wait, once."""
    monkeypatch.setattr(arrays.NumpyTranslator, "allocate", _no_memory)
    monkeypatch.setattr(SharedMemory, "allocate", _no_memory)
    if governed:
        box = Surviving(tmp_path, monkeypatch).box
    else:
        box = Box(tmp_path, FakeClock(), checkpoint_every="5s")
        monkeypatch.setattr(box.training_state, "translators", (arrays.NumpyTranslator(),))
        box.training_state.extra = np.zeros(1000)
        box.open()
    assert box.train(10_000)
    saved = [event["reason"] for event in box.events("checkpoint_saved")]
    assert saved.count("periodic") >= (1 if governed else 5)
    assert saved[-1] == "deadline"
    box.session.close(Outcome.TIMEBOXED)
    said = capsys.readouterr().err
    assert said.count("so training waits for each checkpoint until it is written") == 1
    assert said.count("so a sudden death costs everything") == int(governed)
    assert "hang guard has no copy" not in said


def test_the_first_copy_says_what_it_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much a death may cost is judged by what a copy takes: a death before the second copy knows that, too."""
    surviving = Surviving(tmp_path, monkeypatch)
    staged = Snapshot.staged

    def slow(*arguments: Any, **keywords: Any) -> Snapshot:
        surviving.box.clock.advance(0.5)
        return staged(*arguments, **keywords)

    monkeypatch.setattr(Snapshot, "staged", slow)
    while surviving.survivor.sealed_step is None:
        surviving.train()
    assert surviving.left() == surviving.survivor.sealed_step
    (manifest,) = surviving.place.glob("step-*/manifest.json")
    assert json.loads(manifest.read_text())["extra"]["copy_s"] == pytest.approx(0.5)
    surviving.box.session.guard.stop()
    os.close(surviving.fd)
