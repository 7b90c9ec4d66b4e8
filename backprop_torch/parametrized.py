"""Modules with parametrizations: `torch.nn.utils.parametrize` gives each a class of its own, with a property for each tensor
that it computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.nn.utils import parametrize


def parametrized_facts(module: nn.Module) -> Mapping[str, Any]:
    """The tensors that are computed, as `derived`: the class was made while the script ran. Empty where none is."""
    if not parametrize.is_parametrized(module) or not type(module).__name__.startswith("Parametrized"):
        return {}
    return {"derived": list(module.parametrizations.keys())}  # type: ignore[operator,union-attr]


def parametrize_again(module: nn.Module, tensors: Iterable[str]) -> None:
    """Give a new module of the class before such a class; its attributes come later."""
    tensors = list(tensors)
    if tensors:
        parametrize._inject_new_class(module)
    for name in tensors:
        parametrize._inject_property(module, name)


def reads_old_names(hook: Any) -> bool:
    """Whether a module's hook is torch's own for states that were saved before weight_norm was a parametrization."""
    function = getattr(hook, "hook", hook)
    return "_weight_norm_compat_hook" in str(getattr(function, "__qualname__", ""))
