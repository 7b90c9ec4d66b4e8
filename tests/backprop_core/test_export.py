"""Plain files from a checkpoint."""

from __future__ import annotations

import datetime
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_model

from backprop_core.checkpoints import NumpyTranslator, capture
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
