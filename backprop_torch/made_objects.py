"""Modules, optimizers and schedulers that a script makes while it trains: made elsewhere without any of its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from backprop_core.true_class import is_a
from backprop_torch.parametrized import parametrize_again, parametrized_facts, reads_old_names

_BEHAVIOUR: Final = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_compiled_call_impl",
)  # fmt: skip
"""What a module does besides: functions, which no checkpoint holds."""
_NOT_PERSISTENT: Final = "_non_persistent_buffers_set"
_BOUND_TO_A_PROCESS: Final = (nn.parallel.DistributedDataParallel, torch.jit.ScriptModule)
_HOOKS: Final = tuple(
    f"_optimizer_{when}_hooks"
    for when in ("step_pre", "step_post", "state_dict_pre", "state_dict_post", "load_state_dict_pre",
                 "load_state_dict_post")
)  # fmt: skip
_SET_ANEW: Final = [*_HOOKS, "_zero_grad_profile_name", "step", "_opt_called"]
"""What `Optimizer.__setstate__` and a scheduler set on an optimizer."""
_OF_FUNCTIONS: Final = (lr_scheduler.LambdaLR, lr_scheduler.MultiplicativeLR)


def recipe_of(value: object) -> Mapping[str, Any] | None:
    """What `made` needs besides the attributes; None where it is something else, or more than its attributes.

    Of the attributes in `without` the new object has its own.
    """
    if is_a(value, nn.Module):
        if any(_of_module(one) is None for one in value.modules()):
            return None
        return {**(_of_module(value) or {}), **parametrized_facts(value)}
    if _is_made_in_its_own_way(type(value)):
        return None
    if is_a(value, Optimizer) and "param_groups" in vars(value):
        return None if any(vars(value).get(name) for name in _HOOKS) else {"without": _SET_ANEW}
    if is_a(value, lr_scheduler.LRScheduler) and not isinstance(value, _OF_FUNCTIONS):
        return {}
    return None


def made(kind: type, recipe: Mapping[str, Any]) -> object:
    """An object of the class `kind` as torch's own code leaves it, and none of the script's."""
    new: Any = object.__new__(kind)
    if issubclass(kind, nn.Module):
        nn.Module.__init__(new)
        new.__dict__[_NOT_PERSISTENT].update(recipe["non_persistent"])
        parametrize_again(new, recipe.get("derived", ()))
    elif issubclass(kind, Optimizer):
        Optimizer.__setstate__(new, {"defaults": {}, "state": {}, "param_groups": []})
    return new


def point_at_weights(module: nn.RNNBase) -> None:
    """Let a recurrent module whose weights have come back find them in the flat list that it computes with."""
    if "_flat_weights" not in vars(module) and "_flat_weights_names" in vars(module):
        module._init_flat_weights()


def _of_module(module: nn.Module) -> Mapping[str, Any] | None:
    kind, own = type(module), vars(module)
    if issubclass(kind, _BOUND_TO_A_PROCESS) or _is_made_in_its_own_way(kind):
        return None
    if any(not reads_old_names(hook) for name in _BEHAVIOUR for hook in _hooks(own.get(name))):
        return None
    return {"non_persistent": sorted(own.get(_NOT_PERSISTENT, ()))}


def _hooks(held: Any) -> list[Any]:
    if isinstance(held, Mapping):
        return list(held.values())
    return [held] if held else []


def _is_made_in_its_own_way(kind: type) -> bool:
    """By a `__new__`, or by Keras, whose layers have variables of their own."""
    return any(
        ("__new__" in vars(one) and one.__module__ not in ("builtins", "typing"))
        or one.__module__.partition(".")[0] == "keras"
        for one in kind.__mro__
    )
