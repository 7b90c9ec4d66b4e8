"""How modules, optimizers, tensors and generators are saved and given back in place."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.trackables import copied
from backprop_torch.overridden import (
    buffers_beside,
    keeps_its_state,
    load_into,
    parameters_beside,
    set_exactly,
)
from backprop_torch.same_groups import groups_stay


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, out of `torch.compile` and DistributedDataParallel."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module) and isinstance(
            module, nn.parallel.DistributedDataParallel | nn.DataParallel
        ):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


@dataclass(frozen=True, slots=True)
class ModuleTracked:
    """A module's `state_dict`, with ordinary names, so that the file serves anybody."""

    module: nn.Module

    def capture(self) -> object:
        return dict(unwrapped(self.module).state_dict())

    def mismatch(self, state: Any) -> str | None:
        if not isinstance(state, Mapping):
            return "is not the state of a module"
        here = dict(unwrapped(self.module).state_dict())
        missing, extra = sorted(set(here) - set(state)), sorted(set(state) - set(here))
        if missing or extra:
            parts = [f"lacks {_few(missing)}"] * bool(missing) + [
                f"has {_few(extra)}, which is not here"
            ] * bool(extra)
            return " and ".join(parts)
        for key, tensor in here.items():
            saved = state[key]
            if not isinstance(tensor, torch.Tensor) or isinstance(
                tensor, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer
            ):
                continue
            if (
                not isinstance(saved, torch.Tensor)
                or saved.shape != tensor.shape
                or saved.dtype != tensor.dtype
            ):
                return f"has {key} as {_kind(saved)}, but here it is {_kind(tensor)}"
        return None

    def restore(self, state: Any) -> None:
        load_into(unwrapped(self.module), state)


@dataclass(frozen=True, slots=True)
class ModuleRest:
    """What of a module is not in its `state_dict` and still decides the next step."""

    module: nn.Module

    def capture(self) -> object:
        module = unwrapped(self.module)
        persistent = module.state_dict()
        beside = parameters_beside(module, persistent)
        return {
            **({"beside": beside} if beside else {}),
            "evaluating": [name for name, child in module.named_modules() if not child.training],
            "parameters": [name for name, _ in module.named_parameters()],
            "frozen": [name for name, parameter in module.named_parameters() if not parameter.requires_grad],
            "buffers": buffers_beside(module, persistent),
            "gradients": {n: p.grad for n, p in module.named_parameters() if p.grad is not None},
        }

    def mismatch(self, state: object) -> str | None:
        if not isinstance(state, Mapping):
            return "is not what belongs to a module"
        here = dict(unwrapped(self.module).named_parameters())
        for name, saved in state.get("beside", {}).items():
            if name not in here:
                return f"has {name}, which is not here"
            if (saved.shape, saved.dtype) != (here[name].shape, here[name].dtype):
                return f"has {name} as {_kind(saved)}, but here it is {_kind(here[name])}"
        return None

    def restore(self, state: Any) -> None:
        module = unwrapped(self.module)
        evaluating, frozen = set(state["evaluating"]), set(state["frozen"])
        for name, child in module.named_modules():
            child.training = name not in evaluating
        parameters = dict(module.named_parameters())
        saved_names = _saved_names(parameters, state.get("parameters", list(parameters)))
        for name, parameter in parameters.items():
            saved_name = saved_names.get(name)
            if saved_name is not None:
                parameter.requires_grad_(saved_name not in frozen)
                set_gradient(parameter, state["gradients"].get(saved_name))
        buffers = dict(module.named_buffers())
        with torch.no_grad():
            for name, saved in state.get("beside", {}).items():
                parameters[name].copy_(saved)
            for name, saved in state["buffers"].items():
                if name in buffers and buffers[name].shape == saved.shape:
                    buffers[name].copy_(saved)


@dataclass(frozen=True, slots=True)
class OptimizerTracked:
    """An optimizer's `state_dict`. Tensors come back in the type they had, which torch's own loader may change."""

    optimizer: Optimizer

    def capture(self) -> object:
        if keeps_its_state(self.optimizer):
            return Optimizer.state_dict(self.optimizer)
        return self.optimizer.state_dict()

    def mismatch(self, state: Any) -> str | None:
        if not isinstance(state, Mapping) or not isinstance(state.get("param_groups"), list):
            return "is not the state of an optimizer"
        here = [len(group["params"]) for group in self.optimizer.param_groups]
        saved = [len(group["params"]) for group in state["param_groups"]]
        if here != saved:
            return f"has parameter groups of {saved} tensors, but here they have {here}"
        parameters = list(_parameters(self.optimizer))
        for index, values in state["state"].items():
            if not isinstance(index, int) or not 0 <= index < len(parameters):
                return f"has a state for parameter {index}, which is not here"
            for key in ("exp_avg", "momentum_buffer"):
                saved_tensor = values.get(key)
                if isinstance(saved_tensor, torch.Tensor) and saved_tensor.shape != parameters[index].shape:
                    return f"has {key} of parameter {index} as {_kind(saved_tensor)}"
        return None

    def restore(self, state: Any) -> None:
        state = copied(state)  # torch keeps the tensors it is given and changes them in place
        before = [dict(group) for group in self.optimizer.param_groups]
        own = keeps_its_state(self.optimizer)
        with groups_stay([self.optimizer]):
            try:
                self.optimizer.load_state_dict(state)
            except Exception:
                if not own:
                    raise
                Optimizer.load_state_dict(self.optimizer, state)
        _order_again(self.optimizer, before)
        _share_again(self.optimizer, before)
        _name_again(self.optimizer)
        parameters = list(_parameters(self.optimizer))
        for index, values in state["state"].items():
            mine = self.optimizer.state[parameters[index]]
            for key, saved in values.items():
                here = mine.get(key)
                if (
                    isinstance(saved, torch.Tensor)
                    and isinstance(here, torch.Tensor)
                    and here.dtype != saved.dtype
                ):
                    mine[key] = saved.to(here.device)
        if own:
            set_exactly(self.optimizer, copied(state))


@dataclass(frozen=True, slots=True)
class OptimizerRest:
    """Parameters that belong to no tracked module, and their pending gradients."""

    optimizer: Optimizer
    objects: Mapping[str, object]

    def _loose(self) -> Iterator[tuple[int, torch.Tensor]]:
        modules = [unwrapped(value) for value in self.objects.values() if isinstance(value, nn.Module)]
        owned = {id(parameter) for module in modules for parameter in module.parameters()}
        for index, parameter in enumerate(_parameters(self.optimizer)):
            if id(parameter) not in owned:
                yield index, parameter

    def capture(self) -> object:
        loose = dict(self._loose())
        return {
            "parameters": {index: parameter.detach() for index, parameter in loose.items()},
            "gradients": {index: p.grad for index, p in loose.items() if p.grad is not None},
        }

    def mismatch(self, state: Any) -> str | None:
        for index, parameter in self._loose():
            saved = state["parameters"].get(index)
            if saved is not None and (saved.shape != parameter.shape or saved.dtype != parameter.dtype):
                return f"has parameter {index} as {_kind(saved)}, but here it is {_kind(parameter)}"
        return None

    def restore(self, state: Any) -> None:
        for index, parameter in self._loose():
            saved = state["parameters"].get(index)
            if saved is not None:
                with torch.no_grad():
                    parameter.copy_(saved)
                set_gradient(parameter, state["gradients"].get(index))


@dataclass(frozen=True, slots=True)
class TensorTracked:
    """A bare tensor, restored in place."""

    tensor: torch.Tensor

    def capture(self) -> object:
        return self.tensor.detach()

    def mismatch(self, state: Any) -> str | None:
        same = isinstance(state, torch.Tensor) and (state.shape, state.dtype) == (
            self.tensor.shape,
            self.tensor.dtype,
        )
        return None if same else f"is {_kind(state)}, but here it is {_kind(self.tensor)}"

    def restore(self, state: Any) -> None:
        with torch.no_grad():
            self.tensor.copy_(state)


def _order_again(optimizer: Optimizer, before: list[dict[str, Any]]) -> None:
    """The settings of each group in the order in which the script has made them: torch puts the tensors last."""
    for group, was in zip(optimizer.param_groups, before, strict=True):
        ordered = {name: group[name] for name in [*was, *group] if name in group}
        group.clear()
        group.update(ordered)


def _name_again(optimizer: Optimizer) -> None:
    """The states by the very names in torch's code: a file that the script pickles then has the same bytes."""
    for state in optimizer.state.values():
        if type(state) is dict:
            named = {sys.intern(key) if type(key) is str else key: value for key, value in state.items()}
            state.clear()
            state.update(named)


def set_gradient(parameter: torch.Tensor, saved: torch.Tensor | None) -> None:
    """Give `parameter` the gradient it had, or none."""
    parameter.grad = None if saved is None else saved.to(parameter.device).clone()


def _saved_names(here: Collection[str], saved: Collection[str]) -> dict[str, str]:
    """The name that each parameter had when it was saved. Keras counts its layers on through the process: where a
    second model's names are others and as many, `dense_9` and `dense_10` are what `dense` and `dense_1` were.
    """
    if set(here) == set(saved):
        return {name: name for name in saved}
    if len(here) != len(saved):
        return {}
    return dict(zip(sorted(here, key=_by_number), sorted(saved, key=_by_number), strict=True))


def _by_number(name: str) -> list[str | int]:
    """Sorts `dense_10` behind `dense_9`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _share_again(optimizer: Optimizer, before: list[dict[str, Any]]) -> None:
    """Groups that share a tuple, `betas` say, share it again: a file that the script pickles then has the same bytes."""
    for group, earlier in zip(optimizer.param_groups, before, strict=True):
        for key, value in group.items():
            there = earlier.get(key)
            if type(value) is tuple and type(there) is tuple and repr(there) == repr(value):
                group[key] = there


def _parameters(optimizer: Optimizer) -> Iterator[torch.Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return type(value).__name__


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
