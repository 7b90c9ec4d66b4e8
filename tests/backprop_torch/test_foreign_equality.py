"""What a user's `__eq__` and `__hash__` do is no business of ours: objects are told apart by identity."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from backprop_core.weak_identity import WeakIdentityMap, weak_set
from backprop_torch.discovery import in_use_with, live_objects
from tests.backprop_torch.cutting import Cut, digest, seed
from tests.backprop_torch.kinds._parts import dataset, network, train_step


class Alike:
    """Equal to everything, and of no use as a key."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_a_weak_map_asks_no_object_what_it_equals_and_keeps_none_alive() -> None:
    """Two objects that call themselves equal are two keys, and one that is dropped is gone."""
    known: WeakIdentityMap[str] = WeakIdentityMap()
    one, other = Alike(), Alike()
    known[one] = "one"
    assert other not in known
    known[other] = "other"
    assert (known.get(one), known.get(other), len(known)) == ("one", "other", 2)
    del one
    assert len(known) == 1
    assert [each is other for each in known] == [True]
    known.discard(other)
    assert not known
    assert other not in weak_set()


def test_looking_for_a_model_beside_a_metric_leaves_no_module_behind() -> None:
    """`Metric.__eq__` returns a new module that adopts the model; it was found as its owner at the next look."""
    model, metric = network(), MulticlassAccuracy(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            found = in_use_with([optimizer], live_objects())
            assert [type(one).__name__ for one in found] == [type(model).__name__, "SGD"]
            assert found[0] is model
    finally:
        gc.enable()
    assert metric._update_count == 0


def _train(cut: Cut, losses: list[float]) -> Any:
    model, metric = network(), MulticlassAccuracy(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with cut.box():
        for _ in range(3):
            for x, y in DataLoader(dataset(), batch_size=5, shuffle=True):
                losses.append(train_step(model, optimizer, x, y))
                metric.update(model(x).detach(), y)
                cut.reached(len(losses))
            metric.reset()
    return digest(model.state_dict())


@pytest.mark.parametrize("alone", [False, True], ids=["beside the model", "in place of the model"])
def test_a_checkpoint_with_such_a_module_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """Version 0.1 wrote checkpoints with a `CompositionalMetric` beside the model, or in its place: they load."""
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))
    whole: list[float] = []
    gc.collect()
    seed(0)
    _train(Cut("whole"), whole)
    with monkeypatch.context() as poisoned:
        from backprop_core.loop.loop_state import LoopState

        clean = LoopState.states

        def states(loop_state: LoopState) -> Any:
            made = dict(clean(loop_state))
            if "model" not in made:  # nothing has been looked for yet
                return made
            made["CompositionalMetric"] = {f"metric_b.{key}": value for key, value in made["model"].items()}
            if alone:
                rest = dict(made["backprop.rest"])
                rest["CompositionalMetric"] = {
                    key: (
                        {f"metric_b.{name}": one for name, one in value.items()}
                        if isinstance(value, dict)
                        else [f"metric_b.{name}" for name in value]
                    )
                    for key, value in rest.pop("model").items()
                }
                made["backprop.rest"] = rest
                del made["model"]
            return made

        poisoned.setattr(LoopState, "states", states)
        losses: list[float] = []
        gc.collect()
        seed(0)
        _train(Cut("cut", at=5), losses)
    assert len(losses) == 5
    seed(1)
    gc.collect()
    _train(Cut("cut"), losses)
    assert losses[5:12] == whole[5:12]
