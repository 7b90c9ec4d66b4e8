"""Tensors that lie in the memory of a model's are views of it again; graphs that are still to be used are told apart."""

from __future__ import annotations

from typing import Any

import torch

from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import ScriptState
from backprop_torch.autograd_graphs import awaits_backward
from backprop_torch.framework import TorchFramework


def _state(names: dict[str, Any]) -> ScriptState:
    model = names["model"]
    own = {id(one) for one in (*model.parameters(), *model.buffers())}
    return ScriptState(
        [DictNamespace(names, "main")],
        tracked_elsewhere=lambda value: id(value) in own,
        frameworks=[TorchFramework()],
    )


def test_a_state_dict_without_a_copy_follows_the_model_after_a_restore() -> None:
    """What the script keeps of `state_dict()` is the model's memory, with torch's versions; a copy of it is not."""
    before: dict[str, Any] = {"model": torch.nn.BatchNorm1d(3), "kept": {}, "part": None}
    state = _state(before)
    state.baseline()
    before["kept"]["live"] = before["model"].state_dict()
    before["kept"]["copy"] = {name: value.clone() for name, value in before["kept"]["live"].items()}
    before["part"] = before["model"].weight.detach()[1:]
    saved = state.changed()

    after: dict[str, Any] = {"model": torch.nn.BatchNorm1d(3), "kept": {}, "part": None}
    again = _state(after)
    again.baseline()
    assert not again.restore(saved).missing
    with torch.no_grad():
        after["model"].weight.fill_(7)
    live = after["kept"]["live"]
    assert live["weight"].tolist() == [7, 7, 7]
    assert after["part"].tolist() == [7, 7]
    assert after["kept"]["copy"]["weight"].tolist() == [1, 1, 1]
    assert live._metadata == before["kept"]["live"]._metadata
    assert not live["weight"].requires_grad


def test_a_view_is_no_view_of_a_model_that_is_smaller_here() -> None:
    """Where the memory does not reach, the stored numbers are there by themselves."""
    before: dict[str, Any] = {"model": torch.nn.Linear(4, 4), "kept": None}
    state = _state(before)
    state.baseline()
    before["kept"] = before["model"].weight.detach()
    saved = state.changed()
    after: dict[str, Any] = {"model": torch.nn.Linear(2, 2), "kept": None}
    again = _state(after)
    again.baseline()
    again.restore(saved)
    assert torch.equal(after["kept"], before["kept"])


def test_a_graph_is_awaited_until_a_backward_pass_has_freed_it() -> None:
    """A loss before `backward()` is, afterwards it is not, nor are leaves, detached tensors and what is no tensor."""
    model = torch.nn.Linear(3, 2)
    hidden = torch.tanh(model(torch.ones(1, 3)))
    loss = hidden.sum()
    assert awaits_backward(loss)
    assert awaits_backward(hidden)
    loss.backward()
    assert not awaits_backward(loss)
    assert not awaits_backward(hidden)
    assert not awaits_backward(model.weight)
    assert not awaits_backward(hidden.detach())
    assert not awaits_backward("text")
