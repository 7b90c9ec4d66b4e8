"""Weights that `fully_shard` has gathered for a pass: they lie in the module instead of the shards that are trained.

Without gradients, as in an evaluation, they stay there until the next pass in which there are some. They are neither the
script's nor to be saved: what belongs to the module are its shards. (`torch.distributed.fsdp`, FSDPParamGroup.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_MODULE = "torch.distributed.fsdp"


@contextmanager
def shards_in_place(values: Iterable[object]) -> Iterator[None]:
    """Inside, the modules among `values` hold their shards; then what they held, unless the weights were loaded meanwhile.

    Nothing is exchanged with other ranks and no memory is freed: the gathered weights are put aside.
    """
    gathered = [group for value in values if isinstance(value, nn.Module) for group in _gathered(value)]
    for group in gathered:
        for param in group.fsdp_params:
            param._setattr_on_modules(param.sharded_param)
    try:
        yield
    finally:
        for group in gathered:
            for param in group.fsdp_params if group.is_unsharded else ():
                param._setattr_on_modules(param._unsharded_param)


def _gathered(module: nn.Module) -> list[Any]:
    package = sys.modules.get(_MODULE)
    sharded = getattr(package, "FSDPModule", None)
    if sharded is None:
        return []
    states = [one._get_fsdp_state() for one in module.modules() if isinstance(one, sharded)]
    groups = [group for state in states for group in _groups_of(state)]
    return [group for group in groups if getattr(group, "is_unsharded", False)]


def _groups_of(state: Any) -> list[Any]:
    several = getattr(state, "_fsdp_param_groups", None)  # not every version of torch has several
    if several is not None:
        return list(several)
    one = getattr(state, "_fsdp_param_group", None)
    return [] if one is None else [one]
