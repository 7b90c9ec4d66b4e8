"""A script closes descriptors of ours, and gets their numbers for files of its own: nothing of ours goes into these."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backprop_core.checkpoints.shared_memory import SharedMemory
from backprop_core.clock import SYSTEM
from backprop_core.own_descriptor import OwnDescriptor
from backprop_core.runs.events import EventLog
from backprop_core.runs.locks import FileLock
from tests.backprop_cli.commandline import CommandLine


def _opens(folder: Path) -> OwnDescriptor:
    return OwnDescriptor(os.open(folder / "plain", os.O_RDWR | os.O_CREAT))


def _memory(folder: Path) -> OwnDescriptor:
    memory = SharedMemory()
    _used.append(lambda: memory.allocate(10_000))
    _used.append(memory.close)
    return memory._file


def _events(folder: Path) -> OwnDescriptor:
    log = EventLog(folder / "events.jsonl", SYSTEM)
    log.append("one")
    _used.append(lambda: log.append("two"))
    _used.append(log.close)
    assert log._descriptor is not None
    return log._descriptor


def _lock(folder: Path) -> OwnDescriptor:
    lock = FileLock(folder / "lock")
    assert lock.acquire()
    _used.append(lambda: lock.write_text("somebody"))
    _used.append(lock.release)
    assert lock._descriptor is not None
    return lock._descriptor


_used: list[Callable[[], Any]] = []


@pytest.mark.parametrize("ours", [_opens, _memory, _events, _lock])
def test_a_number_that_leads_elsewhere_is_left_alone(
    tmp_path: Path, ours: Callable[[Path], OwnDescriptor]
) -> None:
    """Whatever is done with it then, the script's file is not written, cut, made longer or closed."""
    _used.clear()
    descriptor = ours(tmp_path)
    number = descriptor.fd
    assert descriptor.is_ours
    os.close(number)
    assert not descriptor.is_ours
    scripts = os.open(tmp_path / "the script's", os.O_RDWR | os.O_CREAT)
    os.write(scripts, b"mine")
    if scripts != number:
        os.dup2(scripts, number)
    assert not descriptor.is_ours
    for use in (*_used, descriptor.close):
        try:
            use()
        except MemoryError as error:
            assert "descriptor" in str(error)  # noqa: PT017
    os.write(number, b" too")
    assert (tmp_path / "the script's").read_bytes() == b"mine too"
    for one in {number, scripts}:
        os.close(one)


def test_events_go_on_in_their_own_file(tmp_path: Path) -> None:
    """The log opens its file again by its name."""
    log = EventLog(tmp_path / "events.jsonl", SYSTEM)
    log.append("one")
    assert log._descriptor is not None
    os.close(log._descriptor.fd)
    log.append("two")
    log.close()
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert kinds == ["one", "two"]


SCRIPT = """
    import os, time
    import numpy as np
    import backprop

    class Model:
        def __init__(self): self.arrays = [np.zeros(100_000)]
        def state_dict(self): return {str(n): a for n, a in enumerate(self.arrays)}
        def load_state_dict(self, state): raise SystemExit("no resume here")

    model, own = Model(), []
    with backprop.timebox(model=model) as box:
        for step in box.steps(150):
            for array in model.arrays: array += 1
            if step == 40:
                os.closerange(3, 1000)
                own = [open(f"own{n}.txt", "w") for n in range(20)]
                for file in own:
                    file.write("mine")
                    file.flush()
                model.arrays.append(np.zeros(1_000_000))  # more memory is needed for copies
            time.sleep(0.02)
"""


def test_a_script_that_closes_everything_keeps_its_files_and_is_saved(backprop: CommandLine) -> None:
    """As a daemon does: its new files hold what it wrote, training completes, and that nothing survives is said."""
    backprop.script(SCRIPT)
    done = backprop("run", "train.py", "-m", "2", "--run-id", "closes")
    assert done.returncode == 0, done.stderr
    assert {(backprop.folder / f"own{n}.txt").read_text() for n in range(20)} == {"mine"}
    assert "closed the shared memory's descriptor, so a sudden death costs everything" in done.stderr
    assert backprop.record("closes")["last_step"] == 150


@pytest.fixture
def backprop(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)
