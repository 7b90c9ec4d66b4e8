"""Processes killed in the middle of copies, one after the other: what is left is never a copy of two moments."""

from __future__ import annotations

import faulthandler
import mmap
import os
import random
import signal
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backprop_core.checkpoints import survivor_header
from backprop_core.checkpoints.codec import capture
from backprop_core.checkpoints.manifest import CheckpointFacts
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.shared_memory import SharedMemory
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from backprop_core.governor.survivor_commit import Remains, commit
from backprop_core.outcome import SaveReason
from backprop_core.runs.handover import MemoryOwner
from backprop_core.session.survivor import Survivor
from tests.backprop_cli.commandline import DEADLINE_S

FACTS = CheckpointFacts("run", 1, 0, None, 0, SaveReason.PERIODIC)
NUMPY = (NumpyTranslator(),)
SIZES = (3_000, 300_000, 3_000_000)
_COUNT = struct.Struct("<Q")


class _NoLine:
    def close(self) -> None: ...


def _copy_for_ever(memory: SharedMemory, sealed: mmap.mmap, nbytes: int) -> None:
    """Copies a state whose every value is its step, as fast as it can, and tells which step was sealed last."""
    survivor = Survivor(memory, _NoLine(), NUMPY, SYSTEM)  # type: ignore[arg-type]
    arrays = {str(n): np.zeros(nbytes // (n + 1) // 8, np.int64) for n in range(4)}
    step = 0
    while True:
        step += 1
        for array in arrays.values():
            array.fill(step)
        half = survivor.choose([0, 1])
        assert half is not None
        survivor.wipe(half)
        snapshot = capture({"model": arrays, "rest": {"step": step}}, NUMPY).staged(survivor.halves[half])
        survivor.seal(half, snapshot, replace(FACTS, step=step))
        survivor.settle()
        _COUNT.pack_into(sealed, 0, step)


def _killed(number: signal.Signals, nbytes: int, after_s: float) -> tuple[SharedMemory, int]:
    """The memory of a process that was killed so long after it had sealed two copies, and the step it told of last."""
    memory, sealed = SharedMemory(), mmap.mmap(-1, _COUNT.size)
    survivor_header.begin(memory.header)
    child = os.fork()
    if not child:
        try:
            faulthandler.disable()  # its dump of a death that is meant
            _copy_for_ever(memory, sealed, nbytes)
        finally:
            os._exit(1)
    end = time.monotonic() + DEADLINE_S
    while _COUNT.unpack_from(sealed)[0] < 2:
        assert time.monotonic() < end
        time.sleep(0.001)
    time.sleep(after_s)
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == number
    return memory, _COUNT.unpack_from(sealed)[0]


def _check(folder: Path, number: signal.Signals, chance: random.Random) -> None:
    memory, told = _killed(number, chance.choice(SIZES), chance.random() * 0.03)
    survival = commit(Remains(memory.fd, MemoryOwner("run", 1, str(folder))), SYSTEM)
    assert survival is not None
    assert survival.trouble == ""
    assert survival.step in (told, told + 1)
    store = CheckpointStore(folder, clock=SYSTEM)
    states: dict[str, Any] = store.load(store.list()[0], NUMPY).states
    assert states["rest"]["step"] == survival.step
    assert all((array == survival.step).all() for array in states["model"].values())
    memory.close()


SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)


@pytest.mark.parametrize("number", SIGNALS)
def test_three_deaths_in_the_middle_of_copies(tmp_path: Path, number: signal.Signals) -> None:
    """Whenever a process dies that does nothing but copy: the copy that it had sealed last is there, and whole."""
    chance = random.Random(number)
    for turn in range(3):
        _check(tmp_path / str(turn), number, chance)


@pytest.mark.faults
@pytest.mark.parametrize("number", SIGNALS)
def test_a_hundred_deaths_in_the_middle_of_copies(tmp_path: Path, number: signal.Signals) -> None:
    """The same at a hundred random moments each."""
    chance = random.Random(1_000 + number)
    for turn in range(100):
        _check(tmp_path / str(turn), number, chance)


def _commit_killed(folder: Path, chance: random.Random) -> None:
    """Kill whoever commits, at a random moment; then somebody else commits."""
    memory, told = _killed(signal.SIGKILL, 8_000_000, 0.0)
    remains = Remains(memory.fd, MemoryOwner("run", 1, str(folder)))
    child = os.fork()
    if not child:
        try:
            commit(remains, SYSTEM)
        finally:
            os._exit(0)
    time.sleep(chance.random() * 0.08)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    store = CheckpointStore(folder, clock=SYSTEM)
    before = [info.path for info in store.list()]
    survival = commit(remains, SYSTEM)
    assert survival is not None
    assert (survival.path is None) is bool(before)
    (info,) = store.list()
    assert info.step in (told, told + 1)
    assert store.verify(info) == []
    store.sweep()
    assert [path.name for path in folder.iterdir()] == [info.path.name]
    memory.close()


def test_a_commit_that_is_killed_is_done_by_the_next(tmp_path: Path) -> None:
    """A keeper that dies while it commits costs nothing: the second one commits, and there is one whole checkpoint."""
    chance = random.Random(3)
    for turn in range(3):
        _commit_killed(tmp_path / str(turn), chance)


@pytest.mark.faults
def test_a_hundred_commits_that_are_killed(tmp_path: Path) -> None:
    """The same at a hundred random moments."""
    chance = random.Random(4)
    for turn in range(100):
        _commit_killed(tmp_path / str(turn), chance)
