"""Modules and optimizers of classes that have their own `state_dict` or `load_state_dict`, and whose pair loses something.

What such a method leaves out, or will not take back, is still part of the training: frozen backbones are left out of
files, heads are skipped when another task's weights are loaded, wrappers drop their prefix.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


def has_own_methods(value: nn.Module | Optimizer) -> bool:
    """Whether its class, or that of a module inside it, has replaced one of the two methods."""
    base: type[Any] = nn.Module if isinstance(value, nn.Module) else Optimizer
    parts: Iterable[object] = value.modules() if isinstance(value, nn.Module) else [value]
    return any(
        getattr(kind, name) is not getattr(base, name)
        for kind in {type(part) for part in parts}
        for name in ("state_dict", "load_state_dict")
    )


# -- modules -------------------------------------------------------------------------------------------------------


def parameters_beside(module: nn.Module, state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The parameters that `state`, its `state_dict`, does not hold, by name."""
    found = {name: one for name, one in module.named_parameters() if name not in state}
    return _not_in(found, state)


def buffers_beside(module: nn.Module, state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The buffers that `state`, its `state_dict`, does not hold, by name."""
    return _not_in({name: one for name, one in module.named_buffers() if name not in state}, state)


def _not_in(found: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A wrapper's names are others, so what is held is told by where it lies in memory."""
    if not found:
        return {}
    places = {_place(value) for value in state.values() if isinstance(value, torch.Tensor)} - {None}
    return {name: one for name, one in found.items() if _place(one) not in places}


def _place(tensor: torch.Tensor) -> tuple[int, Any, Any] | None:
    try:
        return (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.data_ptr() else None
    except (RuntimeError, ValueError, NotImplementedError):  # no storage, or not one
        return None


def with_versions(module: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """`state` with the versions of the classes of `module`, which torch hangs on a `state_dict` and no checkpoint holds.

    Without them torch takes it for one of an old version, and adds what BatchNorm lacked once.
    """
    found: OrderedDict[str, Any] = OrderedDict(state)
    versions = getattr(module.state_dict(), "_metadata", None)
    if versions is not None:
        found._metadata = versions  # type: ignore[attr-defined]
    return found


def load_into(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Give `module` what its `state_dict` once gave.

    Raises:
        RuntimeError: it does not fit a module whose classes have torch's own methods.
    """
    own = has_own_methods(module)
    state = with_versions(module, state)
    try:
        module.load_state_dict(state)
    except Exception:
        if not own:
            raise
        nn.Module.load_state_dict(module, state, strict=False)
    if not own:
        return
    with torch.no_grad():
        for name, here in dict(module.state_dict()).items():
            saved = state.get(name)
            if (
                isinstance(here, torch.Tensor)
                and isinstance(saved, torch.Tensor)
                and here.shape == saved.shape
            ):
                here.copy_(saved)


# -- optimizers ----------------------------------------------------------------------------------------------------


def keeps_its_state(optimizer: Optimizer) -> bool:
    """Whether an optimizer with such methods holds its state itself, and not for or in another one."""
    mine = vars(optimizer)
    return (
        has_own_methods(optimizer)
        and {"state", "param_groups"} <= mine.keys()
        and not any(isinstance(value, Optimizer) for value in mine.values())
    )


def set_exactly(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Set in place what its own `load_state_dict` has left otherwise than in `state`, which is torch's `state_dict`."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            saved = state["state"].get(index)
            if saved is None:
                optimizer.state.pop(parameter, None)
            else:
                _set_in(optimizer.state[parameter], saved)
        for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
            _set_in(group, {**saved, "params": group["params"]})


def _set_in(here: dict[str, Any], saved: Mapping[str, Any]) -> None:
    for name in here.keys() - saved.keys():
        del here[name]
    for name, value in saved.items():
        old = here.get(name)
        if (
            isinstance(value, torch.Tensor)
            and isinstance(old, torch.Tensor)
            and (old.shape, old.dtype) == (value.shape, value.dtype)
        ):
            old.copy_(value)
        else:
            here[name] = value
