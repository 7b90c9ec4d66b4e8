"""Which of torch's objects are looked into for a script's state, and what of them is stored in other ways."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from backprop_core.script_state.script_classes import is_the_scripts
from backprop_torch.objects import unwrapped

_MODULE: Final = frozenset(
    {"_non_persistent_buffers_set", "_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook", "_forward_hooks",
     "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
     "_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
     "_load_state_dict_post_hooks", "_compiled_call_impl"}
)  # fmt: skip
_RECURRENT: Final = _MODULE | {"_flat_weights", "_flat_weight_refs"}
"""Such a module has its weights once more in the order in which it computes with them."""
_DDP: Final = _MODULE | {
    *("_has_rebuilt_buckets", "_lazy_init_ran", "_static_graph_delay_allreduce_enqueued"),
    *("_module_parameters", "modules_buffers", "named_module_buffers"),
}
"""What DistributedDataParallel notes of its reducer, which a new process sets up anew in its first step; and its lists of
what the module has under better names."""
LOADER: Final = frozenset(
    {
        "_iterator",
        "next_iter_state",
        "_backprop_watch",
        "_DataLoader__multiprocessing_context",
        "multiprocessing_context",
    }
)


_PREPARED: Final = LOADER | {"dl_state_dict"}
"""Of loaders that accelerate has prepared: to load their state would begin the next pass, too, where this one stands."""
_READ_NOW: Final = frozenset({"_dataloader_references_ref"})
"""Which loaders are being read, as accelerate's GradientState has it: a pass that goes on enters itself."""


_REGISTER: Final = frozenset({"_dataloaders"})
"""Every loader that an Accelerator has ever prepared: the script's variables hold those that it still reads."""
_OF_ACCELERATE: Final = {
    "accelerate.accelerator.Accelerator": _REGISTER,
    "accelerate.state.GradientState": _READ_NOW,
}


_OPTIMIZER: Final = frozenset(
    {"step", "_optimizer_step_pre_hooks", "_optimizer_step_post_hooks",
     "_optimizer_state_dict_pre_hooks", "_optimizer_state_dict_post_hooks", "_optimizer_load_state_dict_pre_hooks",
     "_optimizer_load_state_dict_post_hooks", "_zero_grad_profile_name", "_warned_capturable_if_run_uncaptured"}
)  # fmt: skip
_ACCELERATED: Final = frozenset(
    {"_strategy", "_callbacks", "scaler", "accelerator_state", "gradient_state", "device_placement", "_is_overflow",
     "_accelerate_step_called",
     "_optimizer_original_step_method", "_optimizer_patched_step_method", "split_batches", "step_with_optimizer"}
)  # fmt: skip
"""What accelerate and Fabric keep around an optimizer or a schedule."""
_WRAPPERS: Final = (
    "accelerate.optimizer", "accelerate.scheduler", "lightning.fabric.wrappers", "lightning_fabric.wrappers",
)  # fmt: skip
_SCHEDULES: Final = "AcceleratedScheduler"


def script_parts(kind: type) -> frozenset[str] | None:
    """Modules are looked into without their hooks, loaders without their running iterators."""
    wraps = kind.__module__ in _WRAPPERS
    if (issubclass(kind, Optimizer) and (wraps or is_the_scripts(kind))) or kind.__name__ == _SCHEDULES:
        return _OPTIMIZER | _ACCELERATED  # all others are told by their `state_dict`
    if issubclass(kind, nn.parallel.DistributedDataParallel):
        return _DDP
    if issubclass(kind, nn.Module):
        return (_RECURRENT if issubclass(kind, nn.RNNBase) else _MODULE) | _keys_of_shards()
    if issubclass(kind, DataLoader):
        return LOADER
    if kind.__module__ == "accelerate.data_loader" and hasattr(kind, "adjust_state_dict_for_prefetch"):
        return _PREPARED
    return _OF_ACCELERATE.get(f"{kind.__module__}.{kind.__name__}")


def _keys_of_shards() -> frozenset[str]:
    """Under which names `fully_shard` hangs what it knows on a module: each process draws them anew."""
    contract = sys.modules.get("torch.distributed._composable.contract")
    keys = (getattr(contract, name, None) for name in ("STATE_KEY", "REGISTRY_KEY"))
    return frozenset(key for key in keys if isinstance(key, str))


def is_looked_into(value: object) -> bool:
    """Whether it is an optimizer or a schedule of the script's, or wraps one: it may have state nobody else knows of."""
    while type(value).__module__ in _WRAPPERS:
        value = vars(value).get("optimizer", vars(value).get("_optimizer", vars(value).get("scheduler")))
    return isinstance(value, Optimizer | LRScheduler) and is_the_scripts(type(value))


def stored_with(tracked: Mapping[str, object]) -> Callable[[object], bool]:
    """Tensors of tracked modules and optimizers, all other tracked objects, iterators of loaders, and process groups.

    A tracked module itself is looked into, and so are optimizers and schedules of the script's: attributes that are no
    tensors of its own are in no `state_dict`, or not in the one that the class has written.
    """
    known: set[int] = set()
    for value in tracked.values():
        if isinstance(value, nn.Module):
            module = unwrapped(value)
            known |= {id(one) for one in module.parameters()} | {id(one) for one in module.buffers()}
        elif not is_looked_into(value):
            known.add(id(value))
        if isinstance(value, Optimizer):
            known |= {id(one) for group in value.param_groups for one in group["params"]}
            known |= {id(value.state), id(value.param_groups), id(value.defaults)}

    def stored(value: object) -> bool:
        if id(value) in known:
            return True
        kind = type(value)
        if kind.__module__.startswith("torch.distributed.") and not issubclass(
            kind, nn.Module | torch.Tensor
        ):
            # Meshes, groups, and what fully_shard hangs on a module: each process makes its own. What averages models and
            # compresses gradients has counts and tensors that last.
            return not kind.__module__.startswith("torch.distributed.algorithms.")
        return (
            issubclass(kind, _BaseDataLoaderIter) or type(value) is torch.utils.data._utils.worker.WorkerInfo
        )

    return stored
