"""A box that was left lets go of the script's loaders, so that their workers end at once."""

from __future__ import annotations

import copy
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


class _Gone:
    """Weak references to what a script has dropped."""

    def __init__(self) -> None:
        self.kept: dict[str, list[weakref.ref[Any]]] = {}

    def watch(self, **objects: Any) -> None:
        for name, value in objects.items():
            self.kept.setdefault(name, []).append(weakref.ref(value))

    def alive(self) -> dict[str, int]:
        return {name: sum(one() is not None for one in refs) for name, refs in self.kept.items()}


@pytest.mark.parametrize("named", [False, True], ids=["unchanged", "box's loops"])
def test_batches_and_loaders_that_a_script_drops_are_gone_inside_the_box(named: bool) -> None:
    """A loader for each epoch, and batches that are dropped before the step: none of them stays."""
    gone = _Gone()
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    with Cut("drops").box(**({"model": model, "optimizer": optimizer} if named else {})) as box:
        for _ in box.epochs(3) if named else range(3):
            loader = DataLoader(dataset(), batch_size=5, shuffle=True)
            gone.watch(loader=loader)
            for batch in box.batches(loader) if named else loader:
                x, y = batch
                gone.watch(batch=x)
                train_step(model, optimizer, x, y)
                del batch, x, y
                assert gone.alive()["batch"] == 0
            del loader
        assert gone.alive() == {"loader": 0, "batch": 0}


def test_an_optimizer_for_each_iteration_leaves_nothing_behind(capfd: pytest.CaptureFixture[str]) -> None:
    """Meta-learning: a copy of the model and an optimizer of its own in each iteration, at most two of each exist."""
    gone = _Gone()
    meta = network()
    points, classes = dataset().tensors
    with Cut("meta").box(checkpoint_every=0.001):
        for _ in range(12):
            fast = copy.deepcopy(meta)
            inner = torch.optim.SGD(fast.parameters(), lr=0.1, momentum=0.9)
            gone.watch(model=fast, optimizer=inner)
            for _ in range(3):
                train_step(fast, inner, points, classes)
                assert max(gone.alive().values()) <= 2
            with torch.no_grad():
                for mine, theirs in zip(meta.parameters(), fast.parameters(), strict=True):
                    mine.lerp_(theirs, 0.1)
    said = capfd.readouterr().err
    assert said.count("Checkpointing: ") <= 2, said


@pytest.mark.parametrize("scheduled", [False, True])
def test_what_was_trained_is_gone_when_the_script_drops_it(scheduled: bool) -> None:
    """A large model has to make room for the next one, inside the box, without a further boundary."""
    gone = _Gone()
    with Cut("room").box():
        model = network()
        optimizer = torch.optim.AdamW(model.parameters())
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1) if scheduled else None
        gone.watch(model=model, optimizer=optimizer)
        for x, y in DataLoader(dataset(), batch_size=5, shuffle=True):
            train_step(model, optimizer, x, y)
        del model, optimizer, scheduler
        gc.collect()
        gc.collect()  # what the first round has let go of may hang together
        assert gone.alive() == {"model": 0, "optimizer": 0}
