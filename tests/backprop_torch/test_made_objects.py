"""Models, optimizers and schedulers that a script makes while it trains: they come back, or are named."""

from __future__ import annotations

import copy
from typing import Any

import torch

from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import Restored, ScriptState
from backprop_torch.framework import TorchFramework
from backprop_torch.translator import TorchTranslator
from tests.backprop_core.script_state.graphs import through_a_file


class Model(torch.nn.Module):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        Model.made += 1
        self.inner = torch.nn.Linear(2, 1)
        self.register_buffer("noise", torch.zeros(2), persistent=False)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x + self.noise)  # type: ignore[no-any-return]


def _state(names: dict[str, Any]) -> ScriptState:
    state = ScriptState([DictNamespace(names, "main")], frameworks=[TorchFramework()])
    state.baseline()
    return state


def _resumed(saved: Any, names: dict[str, Any]) -> tuple[dict[str, Any], Restored]:
    return names, _state(names).restore(saved)


def test_a_model_that_was_made_during_training_comes_back() -> None:
    """A copy of a model is another object than the model, which has the copy's name when the new process begins."""
    model = Model()
    names: dict[str, Any] = {"model": model, "best": model, "rival": None}
    state = _state(names)
    with torch.no_grad():
        names["best"] = copy.deepcopy(model)
        names["rival"] = names["best"].inner
        model.inner.weight.fill_(7)
        names["best"].inner.weight.fill_(3)
        names["best"].calls = 5
    made = Model.made
    saved = through_a_file(state.changed(), TorchTranslator())
    assert not state.unkept()
    fresh = Model()
    back, restored = _resumed(saved, {"model": fresh, "best": fresh, "rival": None})
    assert not restored.missing
    assert Model.made == made + 1  # `fresh`
    best = back["best"]
    assert (type(best), best.calls, back["rival"]) == (Model, 5, best.inner)
    assert fresh.inner.weight.unique().tolist() == [7.0]
    assert torch.equal(best(torch.ones(1, 2)), names["best"](torch.ones(1, 2)))
    assert list(best.state_dict()) == ["inner.weight", "inner.bias"]
    assert list(dict(best.named_buffers())) == ["noise"]


def test_a_model_with_hooks_is_named() -> None:
    """What a hook does is code, which is in no checkpoint."""
    names: dict[str, Any] = {"best": None}
    state = _state(names)
    names["best"] = Model()
    names["best"].inner.register_forward_hook(print)
    state.changed()
    assert [one.name for one in state.unkept()][:1] == ["main.best"]


def test_an_optimizer_that_was_made_during_training_comes_back() -> None:
    """It has the parameters of the model that came back with it, and takes the same next step."""
    names: dict[str, Any] = {"made": []}
    state = _state(names)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    names["made"].append((model, optimizer, schedule))

    def step(model: Any, optimizer: Any, schedule: Any) -> list[float]:
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        schedule.step()
        return [model.inner.weight.sum().item(), optimizer.param_groups[0]["lr"]]

    step(model, optimizer, schedule)
    saved = through_a_file(state.changed(), TorchTranslator())
    assert not state.unkept()
    back, restored = _resumed(saved, {"made": []})
    assert not restored.missing
    assert step(*back["made"][0]) == step(model, optimizer, schedule)
