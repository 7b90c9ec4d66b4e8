"""Plain files from a checkpoint."""

from __future__ import annotations

import datetime
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, load_model

from backprop_core.checkpoints import NumpyTranslator, capture
from backprop_core.checkpoints.codec import capture_shards
from backprop_core.checkpoints.folder import write_part
from backprop_core.checkpoints.shards import SHARDS, OwnShards, Part, mark
from backprop_core.errors import CheckpointDamagedError, UsageError
from backprop_core.export import export_checkpoint
from backprop_torch.translator import TorchTranslator
from tests.backprop_core.checkpoints.states import facts, store_at

BOTH = (TorchTranslator(), NumpyTranslator())


class Tied(torch.nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight


def saved(folder: Path, states: dict[str, object]) -> Path:
    return store_at(folder / "checkpoints").commit(capture(states, BOTH), facts(5)).path


def test_a_model_and_its_optimizer_come_out_for_other_programs(tmp_path: Path) -> None:
    """safetensors' own load_model and torch.load without trust take the files, and the states are the same
    bits.
    """
    torch.manual_seed(1)
    model = Tied()
    optimizer = torch.optim.Adam(model.parameters())
    model.first(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    path = saved(
        tmp_path, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "backprop.own": 1}
    )
    told: list[str] = []
    written = export_checkpoint(path, tmp_path / "out", told=told.append)
    names = sorted(file.name for file in written)
    assert names == ["model.pt", "model.safetensors", "optimizer.pt", "optimizer.safetensors"]
    assert told == []

    other = Tied()
    missing, unexpected = load_model(other, tmp_path / "out" / "model.safetensors")
    assert not missing
    assert not unexpected
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    other = Tied()
    other.load_state_dict(torch.load(tmp_path / "out" / "model.pt", weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    again = torch.optim.Adam(other.parameters())
    again.load_state_dict(torch.load(tmp_path / "out" / "optimizer.pt", weights_only=True))
    assert torch.equal(
        again.state_dict()["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"]
    )


def test_what_torch_does_not_trust_becomes_plain_and_is_said(tmp_path: Path) -> None:
    """Every kind of value that a checkpoint holds ends up in a file that torch.load takes without trust."""
    import ml_dtypes

    state: dict[str, Any] = {
        "a": np.arange(3), "b": np.float32(2.5), "c": defaultdict(list, {"x": [1]}), "d": deque([1], 2),
        "e": frozenset({1}), "f": Path("/x"), "g": datetime.datetime(2026, 1, 2), "h": datetime.timedelta(seconds=3),
        "i": np.array(["t"]), "j": np.arange(2).astype(ml_dtypes.bfloat16), "k": OrderedDict(z=1), "l": Counter("aa"),
        "m": {1, 2}, "n": range(2), "o": b"x", "p": 10**30, "q": slice(1), "r": 1j, "s": (1, 2.5, None, True),
        "t": datetime.date(2026, 1, 2), "u": np.array(5),
    }  # fmt: skip
    path = saved(tmp_path, {"extra": state})
    told: list[str] = []
    export_checkpoint(path, tmp_path / "out", told=told.append)
    loaded = torch.load(tmp_path / "out" / "extra.pt", weights_only=True)
    assert torch.equal(loaded["a"], torch.arange(3))
    assert loaded["j"].dtype is torch.bfloat16
    assert loaded["p"] == 10**30
    assert loaded["f"] == "/x"
    assert loaded["g"] == "2026-01-02T00:00:00"
    assert loaded["h"] == 3.0
    assert loaded["s"] == (1, 2.5, None, True)
    assert len(told) == 1
    assert "defaultdict" in told[0]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A file that already exists stops the export before anything is written."""
    path = saved(tmp_path, {"model": {"w": torch.ones(2)}})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.pt").write_text("mine")
    with pytest.raises(UsageError, match="already exists"):
        export_checkpoint(path, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["model.pt"]


def test_a_damaged_checkpoint_is_not_exported(tmp_path: Path) -> None:
    """Digests are checked on the way out too, and nothing is left behind."""
    path = saved(tmp_path, {"model": {"w": torch.ones(2)}})
    (path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointDamagedError):
        export_checkpoint(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


ARRAYS, ROWS, COLUMNS = 12, 1024, 2048  # of 8 MB each


def spread_over_two(folder: Path) -> Path:
    """A checkpoint whose arrays two ranks hold, each its rows; their contents tell number and row."""
    half = ROWS // 2

    def of(rank: int) -> dict[str, Any]:
        rows = torch.arange(rank * half, (rank + 1) * half, dtype=torch.float32)[:, None]
        return {
            f".w{number}": {"offsets": [rank * half, 0], "block": (rows + 10_000 * number).repeat(1, COLUMNS)}
            for number in range(ARRAYS)
        }

    def others() -> list[Part]:
        return [write_part(folder, capture_shards({"model": of(1)}, [TorchTranslator()]), 1)]

    tree = {f"w{number}": mark((ROWS, COLUMNS), "float32") for number in range(ARRAYS)}
    states: dict[str, object] = {"model": tree, SHARDS: OwnShards({"model": of(0)}, others)}
    return store_at(folder).commit(capture(states, [TorchTranslator()]), facts(1)).path


class Held:
    """The most memory of its own (`RssAnon`) that this process has beyond what it had, while the block runs; in bytes."""

    def __enter__(self) -> Held:
        self._began, self.most, self._over = self._now(), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            self.most = max(self.most, self._now() - self._began)

    @staticmethod
    def _now() -> int:
        (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in one]
        return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_sharded_model_is_exported_without_being_held(tmp_path: Path) -> None:
    """One plain file of 96 MB, to the byte, with a quarter of that in memory; and the .pt beside it."""
    path = spread_over_two(tmp_path / "checkpoints")
    with Held() as held:
        export_checkpoint(path, tmp_path / "out")
    assert held.most < ARRAYS * ROWS * COLUMNS
    plain = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    whole = load_file(tmp_path / "out" / "model.safetensors")
    rows = torch.arange(ROWS, dtype=torch.float32)[:, None]
    for number in range(ARRAYS):
        expected = (rows + 10_000 * number).expand(-1, COLUMNS)
        assert torch.equal(whole[f"w{number}"], expected)
        assert torch.equal(plain[f"w{number}"], expected)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["model.pt", "model.safetensors"]


def test_a_damaged_part_of_a_rank_is_not_exported(tmp_path: Path) -> None:
    """Parts that are mapped are verified before, and nothing is left behind."""
    path = spread_over_two(tmp_path / "checkpoints")
    part = path / "rank-00001" / "model.shards.safetensors"
    with part.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(CheckpointDamagedError, match="rank-00001"):
        export_checkpoint(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
