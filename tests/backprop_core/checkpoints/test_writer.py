"""The background thread."""

from __future__ import annotations

import threading
from pathlib import Path

from backprop_core.checkpoints import CheckpointFacts, CheckpointInfo, Snapshot, Writer
from backprop_core.clock import SYSTEM
from backprop_core.errors import CheckpointError, CheckpointWriteError

from .states import facts, small_snapshot, store_at


class GatedStore:
    """A store whose commits wait until they are let through, then fail or give what they are told."""

    def __init__(self, outcome: BaseException | CheckpointInfo) -> None:
        self.gate = threading.Event()
        self.outcome = outcome

    def commit(self, snapshot: Snapshot, facts: CheckpointFacts) -> CheckpointInfo:
        assert self.gate.wait(30)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def test_a_snapshot_is_committed_in_the_background(tmp_path: Path) -> None:
    """submit returns at once, join waits for the commit, and poll hands its result over exactly once."""
    store = store_at(tmp_path)
    writer = Writer(store, SYSTEM)
    for step in (1, 2, 3):
        assert writer.submit(small_snapshot(step), facts(step))
        assert writer.join(None)
        (info,) = writer.poll()
        assert isinstance(info, CheckpointInfo)
        assert info.step == step
        assert writer.poll() == []
    writer.close()
    assert [info.step for info in store.list()] == [3, 2]


def test_a_second_snapshot_is_refused_while_one_is_in_flight() -> None:
    """Back-pressure: the caller keeps training and tries again at a later boundary."""
    store = GatedStore(CheckpointWriteError("no"))
    writer = Writer(store, SYSTEM)
    assert writer.submit(small_snapshot(), facts(1))
    assert writer.busy
    assert not writer.submit(small_snapshot(), facts(2))
    assert not writer.join(0.0)
    store.gate.set()
    assert writer.join(30.0)
    assert writer.submit(small_snapshot(), facts(3))
    assert writer.join(30.0)
    writer.close()


def test_errors_come_out_of_poll() -> None:
    """A failed commit, foreseen or not, is an error of the checkpoint and does not end the thread."""
    for outcome in (CheckpointWriteError("full"), ZeroDivisionError("odd"), SystemExit(3)):
        store = GatedStore(outcome)
        store.gate.set()
        writer = Writer(store, SYSTEM)
        for _ in range(2):
            assert writer.submit(small_snapshot(), facts(1))
            assert writer.join(30.0)
            (error,) = writer.poll()
            assert isinstance(error, CheckpointError)
        writer.close()


def test_a_closed_writer_finishes_what_is_in_flight(tmp_path: Path) -> None:
    """close takes no more work, but the save that was submitted is on the disk once join returns."""
    store = store_at(tmp_path)
    writer = Writer(store, SYSTEM)
    assert writer.submit(small_snapshot(), facts(1))
    writer.close()
    assert writer.join(None)
    assert not writer.submit(small_snapshot(), facts(2))
    assert [info.step for info in store.list()] == [1]
