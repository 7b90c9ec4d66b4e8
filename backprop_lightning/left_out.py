"""What a script's own methods take out of Lightning's checkpoint, or do not take back from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from backprop_core.script_state.trackables import copied
from backprop_torch.overridden import (
    buffers_beside,
    has_own_methods,
    keeps_its_state,
    parameters_beside,
    set_exactly,
)


def of_module(module: Any, weights: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Parameters and buffers, to be put back behind Lightning's own: in the form of `ModuleRest`.

    Args:
        module: with methods of its own for its state, or the hook `on_save_checkpoint`, by which backbones are left out.
        weights: gives the `state_dict` in Lightning's checkpoint, behind that hook.
    """
    if has_own_methods(module):
        return {"beside": dict(module.named_parameters()), "buffers": dict(module.named_buffers())}
    hook = type(module).on_save_checkpoint
    if hook.__module__.partition(".")[0] in ("lightning", "pytorch_lightning"):
        return {}
    beside = parameters_beside(module, weights())
    return {"beside": beside, "buffers": buffers_beside(module, weights())} if beside else {}


def of_optimizers(optimizers: Sequence[Optimizer]) -> dict[int, Any]:
    """The state of those that have methods of their own for it."""
    return {
        number: Optimizer.state_dict(one) for number, one in enumerate(optimizers) if keeps_its_state(one)
    }


def set_optimizers(optimizers: Sequence[Optimizer], saved: Mapping[int, Any]) -> None:
    """Set in place what their own methods have left otherwise."""
    for number, state in saved.items():
        set_exactly(optimizers[int(number)], copied(state))
