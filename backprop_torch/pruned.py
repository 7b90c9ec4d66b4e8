"""Modules that were pruned: `torch.nn.utils.prune` recomputes a weight by a hook, which a state that is put back lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from backprop_core.true_class import is_a


def hook_again(value: object) -> None:
    """Give a module whose pruned weights have just come back the hooks that recompute them."""
    if not is_a(value, nn.Module) or not value._buffers:
        return
    module: nn.Module = value
    known = {
        hook._tensor_name
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, prune.BasePruningMethod)
    }
    for buffer, mask in list(module._buffers.items()):
        name = buffer.removesuffix("_mask")
        if name == buffer or name in known or mask is None or f"{name}_orig" not in module._parameters:
            continue
        module._parameters.pop(name, None)
        method: Any = prune.CustomFromMask(mask)
        method._tensor_name = name
        # What has come back is what the last forward pass computed: the next pruning chooses by it; the mask comes later.
        if name not in vars(module):
            setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)


def pruned_in(module: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """By the path of each pruned tensor: what is under the mask (`orig`), and the `mask`."""
    found = {}
    for path, part in module.named_modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod):
                name: str = hook._tensor_name
                orig, mask = part._parameters.get(f"{name}_orig"), part._buffers.get(f"{name}_mask")
                if orig is not None and mask is not None:
                    found[f"{path}.{name}" if path else name] = {"orig": orig.detach(), "mask": mask}
    return found


def prune_again(module: nn.Module, pruned: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """Prune what was pruned, the very parameters that an optimizer holds; what is pruned already stays as it is."""
    for path, tensors in pruned.items():
        owner, _, name = path.rpartition(".")
        part = module.get_submodule(owner)
        parameter = part._parameters.pop(name, None)
        if parameter is None:
            continue
        with torch.no_grad():
            parameter.copy_(tensors["orig"])
        part.register_parameter(f"{name}_orig", parameter)
        part.register_buffer(f"{name}_mask", tensors["mask"].to(parameter))
        hook_again(part)
