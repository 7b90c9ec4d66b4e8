"""Models and optimizers that training rearranges: layers and groups that it adds, parameters that it exchanges."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from backprop_core.ports.framework import groups_in
from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import ScriptState, has_parts
from backprop_torch.framework import TorchFramework
from backprop_torch.objects import ModuleTracked, OptimizerTracked
from backprop_torch.translator import TorchTranslator
from tests.backprop_core.script_state.graphs import through_a_file

Names = dict[str, Any]
TORCH = TorchFramework()


class Block(nn.Module):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        Block.made += 1
        self.inner = nn.Linear(3, 3)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x) + self.seen  # type: ignore[no-any-return]


def _names() -> Names:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    return {"model": model, "optimizer": torch.optim.Adam(model.parameters(), 0.1), "old": None}


def _state(names: Names, *, hold: bool = True) -> ScriptState:
    tracked = {name: names[name] for name in ("model", "optimizer")}
    state = ScriptState(
        lambda: [DictNamespace(names, "main"), *groups_in([TORCH], tracked)],
        tracked_elsewhere=lambda value: any(stored(value) for stored in [TORCH.stored_with(tracked)]),
        frameworks=[TORCH],
    )
    state.baseline(hold=hold)
    return state


def _train(names: Names) -> None:
    for parameter in names["model"].parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    names["optimizer"].step()


def prunes(names: Names) -> None:
    prune.l1_unstructured(names["model"][0], "weight", 0.3)


def grows(names: Names) -> None:
    block = Block()
    names["model"].insert(1, block)
    names["optimizer"].add_param_group({"params": block.parameters(), "lr": 0.01})


def exchanges_a_layer(names: Names) -> None:
    names["old"] = names["model"][1]
    _forget(names)
    names["model"][1] = nn.Linear(3, 2)
    names["optimizer"].param_groups[0]["params"] += list(names["model"][1].parameters())


def _forget(names: Names) -> None:
    """The optimizer trains the last layer no longer."""
    optimizer = names["optimizer"]
    for parameter in names["model"][1].parameters():
        del optimizer.state[parameter]
    del optimizer.param_groups[0]["params"][2:]


def densifies(names: Names) -> None:
    """As Gaussian splatting does: a parameter of another shape takes the place of one, in the optimizer, too."""
    layer, group, state = names["model"][1], names["optimizer"].param_groups[0], names["optimizer"].state
    for name, old in list(layer.named_parameters()):
        wider = nn.Parameter(torch.cat([old.detach(), torch.ones_like(old[:1])]))
        state[wider] = {
            key: torch.cat([moment, torch.zeros_like(moment[:1])]) if moment.shape == old.shape else moment
            for key, moment in state.pop(old).items()
        }
        group["params"] = [wider if one is old else one for one in group["params"]]
        setattr(layer, name, wider)


def drops(names: Names) -> None:
    _forget(names)
    del names["model"][1]


class Symmetric(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.triu() + x.triu(1).T


def parametrizes(names: Names) -> None:
    nn.utils.parametrize.register_parametrization(names["model"][0], "weight", Symmetric())
    nn.utils.parametrizations.spectral_norm(names["model"][0])


def norms(names: Names) -> None:
    _forget(names)
    layer = nn.utils.parametrizations.weight_norm(names["model"][1])
    names["optimizer"].add_param_group({"params": layer.parameters()})


def doubles(names: Names) -> None:
    names["model"].double()
    for moments in names["optimizer"].state.values():
        moments["exp_avg"], moments["exp_avg_sq"] = (
            moments["exp_avg"].double(),
            moments["exp_avg_sq"].double(),
        )


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize(
    "change", [prunes, grows, exchanges_a_layer, densifies, drops, parametrizes, norms, doubles]
)
def test_what_training_rearranged_is_arranged_so_before_its_state_comes_back(
    change: Callable[[Names], None], hold: bool
) -> None:
    """Modules, parameters and groups are there again, the optimizer trains the model's own, and no step differs."""
    names = _names()
    state = _state(names)
    _train(names)
    change(names)
    made = Block.made
    saved = through_a_file(state.changed(), TorchTranslator())
    files = {
        "model": ModuleTracked(names["model"]).capture(),
        "optimizer": OptimizerTracked(names["optimizer"]).capture(),
    }
    files = through_a_file(files, TorchTranslator())
    assert not state.unkept()

    back = _names()
    resumed = _state(back, hold=hold)
    assert not resumed.restore(saved).missing
    assert not resumed.restore(saved).missing  # as some forms do
    for name, kind in (("model", ModuleTracked), ("optimizer", OptimizerTracked)):
        tracked: Any = kind(back[name])
        assert tracked.mismatch(files[name]) is None
        tracked.restore(files[name])
    assert Block.made == made
    trained = {id(p) for group in back["optimizer"].param_groups for p in group["params"]}
    assert trained == {id(p) for p in back["model"].parameters()}
    for both in (names, back):
        _train(both)
    there, here = names["model"].state_dict(), back["model"].state_dict()
    assert list(there) == list(here)
    assert all(
        torch.equal(there[name], here[name]) and there[name].dtype == here[name].dtype for name in there
    )
    x = torch.ones(1, 3, dtype=next(iter(there.values())).dtype)
    assert torch.equal(names["model"](x), back["model"](x))

    again = through_a_file(resumed.changed(), TorchTranslator())
    assert has_parts(again) == has_parts(saved)
    third = _names()
    assert not _state(third, hold=hold).restore(again).missing
    assert list(third["model"].state_dict()) == list(there)


def test_an_array_that_looks_the_same_is_not_stored_again() -> None:
    """What training does every day, steps in place, is in the files of model and optimizer alone."""
    names = _names()
    state = _state(names)
    _train(names)
    assert not has_parts(state.changed())


def test_a_group_is_arranged_in_place() -> None:
    """A scheduler that holds on to the optimizer's groups holds on to them behind a resume, too."""
    names = _names()
    groups = groups_in([TORCH], {"optimizer": names["optimizer"], "other": types.SimpleNamespace()})
    before = names["optimizer"].param_groups[0]["params"]
    groups[0].set("tensors", (tuple(before),))
    assert names["optimizer"].param_groups[0]["params"] is before
    groups[0].set("tensors", (tuple(before[:1]), tuple(before[1:])))
    assert [len(group["params"]) for group in names["optimizer"].param_groups] == [1, 3]
    groups[0].set("tensors", (tuple(before),))
    assert [len(group["params"]) for group in names["optimizer"].param_groups] == [4]


def test_what_has_a_file_is_found_where_it_lay_and_not_by_a_name_that_another_has_by_now() -> None:
    """`best` was a second name of the model, and `optimizer` is another one by now: neither is taken for what it was."""
    names = _names() | {"best": None}
    names["best"] = model = names["model"]
    tracked = {"best": model}
    state = ScriptState(lambda: [DictNamespace(names, "main")], frameworks=[TORCH], tracked=lambda: tracked)
    state.baseline(hold=True)
    names["best"], names["optimizer"] = copy.deepcopy(model), torch.optim.SGD(model.parameters(), 0.1)
    tracked["optimizer"] = names["optimizer"]
    saved = through_a_file(state.changed(), TorchTranslator())

    first = names = _names() | {"best": None}
    names["best"] = names["model"]
    resumed = ScriptState(lambda: [DictNamespace(names, "main")], frameworks=[TORCH])
    resumed.baseline(hold=True)
    assert resumed.objects_in(saved) == {"best": names["model"]}  # the first optimizer is another one
    first["best"], first["optimizer"] = (
        copy.deepcopy(names["model"]),
        torch.optim.SGD(names["model"].parameters(), 0.1),
    )
    assert resumed.objects_in(saved) == {"best": names["model"], "optimizer": first["optimizer"]}
    assert resumed.objects_at(saved) == {"optimizer": first["optimizer"]}
    assert resumed.objects_in({"nodes": [], "paths": {}}) == {}  # as earlier checkpoints are


def test_an_optimizer_at_the_address_of_one_that_is_gone_was_not_there_at_the_beginning() -> None:
    """A baseline knows an object by its address only as long as that object lives."""
    names = _names()
    state = ScriptState(lambda: [DictNamespace(names, "main")], frameworks=[TORCH])
    baseline = state.baseline()
    old = baseline.known["main.optimizer"]
    names["optimizer"] = torch.optim.Adam(names["model"].parameters())
    old.ident = id(names["optimizer"])  # as if it lay there
    assert baseline.is_same("main.model", names["model"])
    assert not baseline.is_same("main.optimizer", names["optimizer"])


def test_an_optimizer_that_a_list_has_grown_by_is_the_one_that_an_earlier_difference_has_put_there() -> None:
    """Found again behind a name that it got later, and by the name of its file; before, it was said not to be here."""

    def begun() -> tuple[Names, dict[str, object], ScriptState]:
        names, tracked = _names() | {"opts": [], "inner": None}, dict[str, object]()
        state = ScriptState(
            lambda: [DictNamespace(names, "main")],
            tracked_elsewhere=lambda value: any(one(value) for one in [TORCH.stored_with(tracked)]),
            frameworks=[TORCH],
            made_again=True,
            tracked=lambda: tracked,
        )
        state.baseline(hold=True)
        names["opts"].append(torch.optim.Adam(names["model"].parameters()))
        return names, tracked, state

    names, tracked, state = begun()
    entry = through_a_file(state.changed(), TorchTranslator())
    tracked["Adam"] = names["inner"] = names["opts"][0]
    saved = through_a_file(state.changed(), TorchTranslator())

    names, tracked, state = begun()
    assert not state.restore(entry).missing
    names["inner"] = names["opts"][0]
    assert state.objects_in(saved) == {"Adam": names["inner"]}
    assert not state.restore(saved).missing
    assert names["inner"] is names["opts"][0]
    assert len(names["opts"]) == 1


def test_the_next_pruning_chooses_by_the_weights_of_the_last_forward_pass() -> None:
    """What the mask had made of them comes back, and is not computed from a mask that is still to be filled."""
    names = _names()
    state = _state(names)
    prune.l1_unstructured(names["model"][0], "weight", 0.3)
    names["model"](torch.ones(1, 3))
    _train(names)
    weight = names["model"][0].weight.detach().clone()
    saved = through_a_file(state.changed(), TorchTranslator())
    names = _names()
    _state(names).restore(saved)
    assert torch.equal(names["model"][0].weight, weight)
