"""Modules that were pruned: `torch.nn.utils.prune` recomputes a weight by a hook, which a state that is put back lacks."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils import prune


def hook_again(value: object) -> None:
    """Give a module whose pruned weights have just come back the hooks that recompute them."""
    if not issubclass(type(value), nn.Module) or not value._buffers:  # type: ignore[attr-defined]
        return
    module: nn.Module = value  # type: ignore[assignment]
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
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
