"""How the first rank waits for what the others write: as long as they say that they write, and no longer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backprop_core.checkpoints import NumpyTranslator
from backprop_core.clock import SYSTEM
from backprop_core.errors import CheckpointWriteError
from backprop_core.session import shard_writer
from backprop_core.session.shard_writer import ShardWriter, parts_of_others

PATIENCE_S, BEAT_S = 0.6, 0.1
SHARDS = {"model": {".w": {"offsets": [0, 0], "block": np.ones((4, 4), np.float32)}}}


class Board:
    """Where two ranks leave word, as the second one sees it."""

    count, rank = 2, 1

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def post(self, key: str, text: str) -> None:
        self.told[key] = text

    def posted(self, key: str) -> str | None:
        return self.told.get(key)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_writer, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(shard_writer, "BEAT_EVERY_S", BEAT_S)


def waits(board: Any, lost: Callable[[], bool] = lambda: False) -> Any:
    return parts_of_others(board, "attempt", 1, SYSTEM, lost)


def test_a_rank_that_is_silent_is_given_up() -> None:
    """However long the box still lasts: it names the process, after the patience."""
    began = time.monotonic()
    with pytest.raises(CheckpointWriteError, match="Process 1 has not written its part"):
        waits(Board())
    assert time.monotonic() - began >= PATIENCE_S


def test_a_rank_that_dies_in_its_write_is_given_up() -> None:
    """What it has said before it died is no word that goes on."""
    board = Board()
    board.post("attempt/1/1/beat", "7")
    with pytest.raises(CheckpointWriteError, match="Process 1 has not written its part"):
        waits(board)


def test_a_rank_that_is_known_to_be_lost_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that has failed ends, whatever the patience is."""
    monkeypatch.setattr(shard_writer, "PATIENCE_S", 3600.0)
    lost = threading.Event()
    threading.Timer(0.2, lost.set).start()
    with pytest.raises(CheckpointWriteError, match="Process 1 has not written its part"):
        waits(Board(), lost.is_set)


def test_a_rank_that_writes_slowly_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says again and again that it writes: its part is taken long after the patience with a silent one."""
    write = shard_writer.write_part

    def slowly(*arguments: Any) -> Any:
        time.sleep(4 * PATIENCE_S)
        return write(*arguments)

    monkeypatch.setattr(shard_writer, "write_part", slowly)
    board: Any = Board()
    writer = ShardWriter(tmp_path, "attempt", board, [NumpyTranslator()], SYSTEM)
    writer.write(1, SHARDS)
    (part,) = waits(board)
    writer.wait()
    assert part.rank == 1
    assert set(part.files) == {path.name for path in (tmp_path / part.folder).iterdir()}


def test_a_rank_that_cannot_write_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is the first rank's, at once."""

    def fails(*arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_writer, "write_part", fails)
    board: Any = Board()
    ShardWriter(tmp_path, "attempt", board, [NumpyTranslator()], SYSTEM).write(1, SHARDS)
    with pytest.raises(CheckpointWriteError, match=r"could not write its part .* No space left"):
        waits(board)
