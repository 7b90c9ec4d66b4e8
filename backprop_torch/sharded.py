"""Tensors that are spread over ranks (DTensor: FSDP2's `fully_shard`, tensor parallelism, both on one mesh).

Each rank gives the block that it holds, with the place at which it begins; a training of any number of ranks and any layout
takes the blocks that overlap its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any
from zlib import crc32

import torch
from torch import nn
from torch.optim import Optimizer

from backprop_core.checkpoints.shards import SavedShards, Shards, mark, marked
from backprop_core.errors import StateMismatchError, UnsavableStateError, UsageError

_MODULE = "torch.distributed.tensor"


def is_spread(value: object) -> bool:
    """Whether `value` is a tensor that this rank holds a part of."""
    module = sys.modules.get(_MODULE)
    return module is not None and isinstance(value, module.DTensor)


def holds_spread(values: Iterable[object]) -> bool:
    """Whether a module or an optimizer among `values` trains such tensors."""
    if _MODULE not in sys.modules:
        return False
    for value in values:
        if isinstance(value, nn.Module) and any(map(is_spread, value.parameters())):
            return True
        if isinstance(value, Optimizer) and any(
            is_spread(p) for g in value.param_groups for p in g["params"]
        ):
            return True
    return False


def refuse_flattened(module: nn.Module) -> None:
    """Refuse FSDP1, whose `state_dict` waits for all ranks although only the first one asks.

    Raises:
        UsageError: the module, or one inside it, is a FullyShardedDataParallel.
    """
    first = sys.modules.get("torch.distributed.fsdp.fully_sharded_data_parallel")
    if first is not None and any(isinstance(one, first.FullyShardedDataParallel) for one in module.modules()):
        raise UsageError(
            "A model in FullyShardedDataParallel (FSDP1) cannot be saved and resumed.",
            "Use torch.distributed.fsdp.fully_shard (FSDP2) instead: each rank saves what it holds.",
        )


# -- saving ------------------------------------------------------------------------------------------------------


def divided(states: Mapping[str, object]) -> tuple[dict[str, object], dict[str, dict[str, dict[str, Any]]]]:
    """`states` with marks in the place of spread tensors, and what this rank holds of those.

    Raises:
        UnsavableStateError: a tensor whose parts are yet to be summed up.
    """
    rest: dict[str, object] = {}
    shards: dict[str, dict[str, dict[str, Any]]] = {}
    for name, state in states.items():
        own: dict[str, dict[str, Any]] = {}
        rest[name] = _divide(state, name, "", own)
        if own:
            shards[name] = own
    return rest, shards


def _divide(value: Any, name: str, path: str, own: dict[str, dict[str, Any]]) -> Any:
    if is_spread(value):
        offsets, local = _block(value, f"{name}{path}")
        if local is not None:
            own[path] = {"offsets": offsets, "block": local}
        return mark(value.shape, str(value.dtype).removeprefix("torch."))
    if isinstance(value, dict):
        changed = {key: _divide(one, name, f"{path}.{key}", own) for key, one in value.items()}
        return changed if any(changed[key] is not one for key, one in value.items()) else value
    if type(value) in (list, tuple):
        items = [_divide(one, name, f"{path}.{index}", own) for index, one in enumerate(value)]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else type(value)(items)
    return value


def _block(tensor: Any, name: str) -> tuple[list[int], torch.Tensor | None]:
    """Where this rank's block begins, and the block; None where another rank writes it, or there is none."""
    if any(placement.is_partial() for placement in tensor.placements):
        raise UnsavableStateError(
            f"{name} is a DTensor whose ranks hold partial sums, which cannot be saved."
        )
    mesh, coordinate = tensor.device_mesh, tensor.device_mesh.get_coordinate()
    if coordinate is None:
        return [], None
    for dimension, placement in enumerate(tensor.placements):
        writer = crc32(name.encode()) % mesh.size(dimension)  # replicated: spread over those that have it
        if placement.is_replicate() and coordinate[dimension] != writer:
            return [], None
    _, offsets = _layout(tensor)
    local = tensor.to_local().detach()
    return list(offsets), local if local.numel() else None


def _layout(tensor: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and beginning of the block that this rank holds of `tensor`."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offsets = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return tuple(shape), tuple(offsets)


# -- restoring ---------------------------------------------------------------------------------------------------


def _within(empty: Callable[[int], memoryview], shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor in memory that `empty` gives."""
    count = prod(shape)
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(empty(count * dtype.itemsize), dtype=dtype, count=count).view(shape)


class _Wanted:
    """What one leaf of a state becomes here: a block of a tensor, filled from the saved blocks that overlap it."""

    def __init__(
        self,
        size: tuple[int, ...],
        dtype: torch.dtype,
        like: Any,
        empty: Callable[[int], memoryview] | None = None,
    ) -> None:
        self._like = like if is_spread(like) and tuple(like.shape) == size else None
        self._size = size
        shape, offsets = (size, (0,) * len(size)) if self._like is None else _layout(self._like)
        self._begins, self._shape = offsets, shape
        self.block = torch.empty(shape, dtype=dtype) if empty is None else _within(empty, shape, dtype)
        self.missing = self.block.numel()
        self._taken: set[tuple[int, ...]] = set()

    def take(self, offsets: Iterable[int], block: torch.Tensor) -> None:
        """Copy what overlaps; several ranks may hold the same block."""
        begins = tuple(offsets)
        if begins in self._taken:
            return
        self._taken.add(begins)
        here, there, count = [], [], 1
        for mine, length, theirs, size in zip(self._begins, self._shape, begins, block.shape, strict=True):
            begin, end = max(mine, theirs), min(mine + length, theirs + size)
            if begin >= end:
                return
            here.append(slice(begin - mine, end - mine))
            there.append(slice(begin - theirs, end - theirs))
            count *= end - begin
        self.block[tuple(here)] = block[tuple(there)]
        self.missing -= count

    def tensor(self) -> torch.Tensor:
        """The whole leaf, as this rank holds it."""
        if self._like is None:
            return self.block
        from torch.distributed.tensor import DTensor

        stride = torch.empty(self._size, device="meta").stride()
        local = self.block.to(self._like.to_local().device)
        mesh, placements = self._like.device_mesh, self._like.placements
        made: torch.Tensor = DTensor.from_local(
            local, mesh, placements, run_check=False, shape=torch.Size(self._size), stride=stride
        )
        return made


def united(
    states: Mapping[str, Any],
    saved: SavedShards | None,
    here: Mapping[str, object],
    objects: Mapping[str, object],
    empty: Callable[[int], memoryview] | None = None,
) -> dict[str, Any]:
    """`states` of a checkpoint with tensors as this rank holds them, whoever saved them.

    Args:
        saved: the parts of the ranks that made it; None for a checkpoint whose tensors are whole.
        here: the same states as they are now, by the same names.
        objects: what they are states of.
        empty: gives so many writable bytes for the tensors; None: memory.

    Raises:
        StateMismatchError: a block of a tensor is missing.
    """
    wanted: dict[str, dict[str, _Wanted]] = {}
    filled = {
        name: _placed(
            state, _Likes(here.get(name), objects.get(name), empty), "", wanted.setdefault(name, {})
        )
        for name, state in states.items()
    }
    if saved is not None and any(wanted.values()):
        for part in saved:
            _fill(wanted, part)
    for name, leaves in wanted.items():
        lacking = next((path for path, one in leaves.items() if one.missing), None)
        if lacking is not None:
            raise StateMismatchError(
                f"The checkpoint lacks a part of {name}{lacking}.", "Resume from another checkpoint."
            )
    return {name: _replaced(state) if wanted[name] else state for name, state in filled.items()}


def _fill(wanted: Mapping[str, Mapping[str, _Wanted]], part: Shards) -> None:
    for name, leaves in wanted.items():
        for path, shard in part.get(name, {}).items():
            if path in leaves:
                leaves[path].take(shard["offsets"], shard["block"])


class _Likes:
    """How the tensors of one object lie here, by path. Those of an optimizer that has not stepped lie as its parameters."""

    def __init__(
        self, state: object, owner: object, empty: Callable[[int], memoryview] | None = None
    ) -> None:
        self._state = state
        self.empty = empty
        groups = owner.param_groups if isinstance(owner, Optimizer) else []
        self._parameters = [parameter for group in groups for parameter in group["params"]]

    def at(self, path: str, size: tuple[int, ...]) -> Any:
        found = _found(self._state, path)
        if isinstance(found, torch.Tensor):
            return found
        words = path.split(".")
        if len(words) == 4 and words[1] == "state" and words[2].isdecimal():
            number = int(words[2])
            if number < len(self._parameters) and tuple(self._parameters[number].shape) == size:
                return self._parameters[number]
        return None


def _found(state: Any, path: str) -> Any:
    """The leaf at `path`, whose keys may hold dots themselves; None where there is none."""
    if not path:
        return state
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    for key, value in items:
        prefix = f".{key}"
        if path == prefix or path.startswith(f"{prefix}."):
            found = _found(value, path[len(prefix) :])
            if found is not None:
                return found
    return None


def _placed(value: Any, likes: _Likes, path: str, wanted: dict[str, _Wanted]) -> Any:
    facts = marked(value)
    if facts is not None:
        size = tuple(int(n) for n in facts["size"])
        dtype = getattr(torch, str(facts["dtype"]))
        wanted[path] = _Wanted(size, dtype, likes.at(path, size), likes.empty)
        return wanted[path]
    if isinstance(value, torch.Tensor):
        like = likes.at(path, tuple(value.shape)) if _MODULE in sys.modules else None
        if like is not None and is_spread(like) and tuple(like.shape) == tuple(value.shape):
            wanted[path] = _Wanted(tuple(value.shape), value.dtype, like)
            wanted[path].take([0] * value.dim(), value)
            return wanted[path]
        return value
    return _mapped(value, lambda key, one: _placed(one, likes, f"{path}.{key}", wanted))


def _replaced(value: Any) -> Any:
    if isinstance(value, _Wanted):
        return value.tensor()
    return _mapped(value, lambda key, one: _replaced(one))


def _mapped(value: Any, change: Callable[[Any, Any], Any]) -> Any:
    """A dict, list or tuple with each item changed; the same object where nothing is."""
    if isinstance(value, dict):
        made = {key: change(key, one) for key, one in value.items()}
        return made if any(made[key] is not one for key, one in value.items()) else value
    if type(value) in (list, tuple):
        items = [change(index, one) for index, one in enumerate(value)]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else type(value)(items)
    return value
