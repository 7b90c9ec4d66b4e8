"""A box that was left lets go of the script's loaders, so that their workers end at once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # what an optimizer imports in its first step: a failed import in there holds frames
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from tests.backprop_torch.cutting import Cut
from tests.backprop_torch.kinds._parts import dataset, fit, network, train_step


@pytest.fixture(autouse=True)
def _no_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What nobody refers to goes at once, and nothing else goes."""
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path / "home"))
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _unchanged(cut: Cut, loader: Any) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    with cut.box():
        for number in range(1, 100):
            for x, y in loader:
                train_step(model, optimizer, x, y)
                cut.reached(number)


@pytest.mark.parametrize("train", [fit, _unchanged])
@pytest.mark.parametrize("kind", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("at", [3, 7])
def test_nothing_holds_a_loader_after_its_box(train: Any, kind: Any, at: int) -> None:
    """A loader in a reference cycle would wait for the collector, and its workers then end five seconds late each."""
    loader = kind(dataset(), batch_size=5, shuffle=True)
    gone = weakref.ref(loader)
    cut = Cut("held", at, "ctrl-c")
    train(cut, loader)
    assert cut.opened is not None
    assert cut.opened.outcome == "stopped"
    del loader
    assert gone() is None
