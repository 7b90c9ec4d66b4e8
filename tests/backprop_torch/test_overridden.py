"""Classes whose own `state_dict` or `load_state_dict` loses something: all of them comes back nevertheless."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from backprop_core.script_state.kinds import Kind, Kinds
from backprop_torch.framework import TorchFramework
from backprop_torch.objects import ModuleRest, ModuleTracked, OptimizerTracked
from backprop_torch.overridden import has_own_methods


class Plain(nn.Module):
    """Torch's own methods, and a running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.body(x)))  # type: ignore[no-any-return]


class WithoutArguments(Plain):
    """Gives a state of its own making."""

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        return {"body": self.body.state_dict(), "head": self.head.state_dict()}

    def load_state_dict(self, state: Any) -> None:  # type: ignore[override]
        self.body.load_state_dict(state["body"])


class SkipsTheHead(Plain):
    """Another task's weights are loaded without their head."""

    def load_state_dict(self, state: Any, strict: bool = True) -> Any:  # type: ignore[override]
        return super().load_state_dict(
            {name: value for name, value in state.items() if "head" not in name}, strict=False
        )


class LeavesOut(Plain):
    """A backbone that others have, and a running mean, are in no file."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if "head" in name}


class Wrapper(nn.Module):
    """Its state has the names of what it wraps."""

    def __init__(self) -> None:
        super().__init__()
        self._inside = Plain()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._inside(x)  # type: ignore[no-any-return]

    def state_dict(self, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:  # type: ignore[override]
        return self._inside.state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)

    def load_state_dict(self, state: Any, strict: bool = True) -> Any:  # type: ignore[override]
        return self._inside.load_state_dict(state, strict)


class Refuses(Plain):
    """Can only be saved."""

    def load_state_dict(self, state: Any, strict: bool = True) -> Any:  # type: ignore[override]
        raise NotImplementedError


MODULES = {
    kind.__name__: kind for kind in (Plain, WithoutArguments, SkipsTheHead, LeavesOut, Wrapper, Refuses)
} | {"inside another": lambda: nn.Sequential(Wrapper())}


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@pytest.mark.parametrize("name", MODULES)
def test_each_parameter_and_buffer_comes_back(name: str) -> None:
    """Whatever the class's own pair of methods leaves out or refuses, and without storing anything twice."""
    module: nn.Module = MODULES[name]()
    module(torch.randn(8, 3))
    saved = copy.deepcopy((ModuleTracked(module).capture(), ModuleRest(module).capture()))
    after: nn.Module = MODULES[name]()
    assert ModuleTracked(after).mismatch(saved[0]) is None
    assert ModuleRest(after).mismatch(saved[1]) is None
    ModuleTracked(after).restore(saved[0])
    ModuleRest(after).restore(saved[1])
    for key, value in _tensors(module).items():
        assert torch.equal(value, _tensors(after)[key]), key
    assert has_own_methods(module) is (name != "Plain")
    if name in ("Plain", "Wrapper", "inside another", "SkipsTheHead", "Refuses"):
        assert ("beside" in saved[1], saved[1]["buffers"]) == (False, {})  # type: ignore[index,operator]


def test_a_checkpoint_of_another_shape_is_refused_before_anything_changes() -> None:
    """What the class leaves out is compared, too."""

    class Wider(LeavesOut):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 3)

    told = ModuleRest(Wider()).mismatch(ModuleRest(LeavesOut()).capture())
    assert told is not None
    assert "body.weight" in told


class OwnFormat(torch.optim.SGD):
    """Its state has another form than torch's."""

    def state_dict(self) -> dict[str, Any]:
        return {"fast": super().state_dict()}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state["fast"])


class KeepsItsRate(torch.optim.SGD):
    """The rate of the command line wins over the file's, and momentum begins anew."""

    def load_state_dict(self, state: Any) -> None:
        rate = self.param_groups[0]["lr"]
        super().load_state_dict(state)
        self.state.clear()
        self.param_groups[0]["lr"] = rate


@pytest.mark.parametrize("kind", [OwnFormat, KeepsItsRate])
def test_an_optimizer_goes_on_with_the_same_bits(kind: type[torch.optim.SGD]) -> None:
    """Its next step is the one that the first would have made."""

    def made() -> tuple[nn.Parameter, torch.optim.SGD]:
        parameter = nn.Parameter(torch.ones(3))
        return parameter, kind([parameter], lr=0.1, momentum=0.9)

    def step(parameter: nn.Parameter, optimizer: torch.optim.SGD) -> torch.Tensor:
        optimizer.zero_grad()
        (parameter**2).sum().backward()
        optimizer.step()
        return parameter.detach().clone()

    parameter, optimizer = made()
    step(parameter, optimizer)
    optimizer.param_groups[0]["lr"] = 0.01
    saved = copy.deepcopy(OptimizerTracked(optimizer).capture())
    other, again = made()
    assert OptimizerTracked(again).mismatch(saved) is None
    OptimizerTracked(again).restore(saved)
    other.data.copy_(parameter.detach())
    assert torch.equal(step(other, again), step(parameter, optimizer))
    assert torch.equal(step(other, again), step(parameter, optimizer))


def test_torch_s_own_optimizers_are_told_by_their_state() -> None:
    """A proof compares their moments by name; only those of the script's classes are looked into."""
    parameter = nn.Parameter(torch.ones(1))
    kinds = Kinds([TorchFramework()], [])
    assert kinds.plan(torch.optim.SGD([parameter], 0.1)).kind is Kind.STATE_DICT
    assert kinds.plan(OwnFormat([parameter], 0.1)).kind is Kind.INSTANCE


def test_a_resume_keeps_the_order_of_a_group_s_settings() -> None:
    """Torch would put the tensors last, and a proof would see another group."""
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(1))])
    before = list(optimizer.param_groups[0])
    OptimizerTracked(optimizer).restore(copy.deepcopy(OptimizerTracked(optimizer).capture()))
    assert list(optimizer.param_groups[0]) == before


def test_a_buffer_that_the_script_has_dropped_stays_dropped() -> None:
    """torch takes a state without its classes' versions for an old one, and adds the count that BatchNorm lacked then."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model[1].num_batches_tracked = None
    state = {name: value.clone() for name, value in ModuleTracked(model).capture().items()}  # type: ignore[attr-defined]
    model(torch.ones(4, 2))
    ModuleTracked(model).restore(state)
    assert torch.equal(model[1].running_mean, state["1.running_mean"])  # type: ignore[arg-type]
