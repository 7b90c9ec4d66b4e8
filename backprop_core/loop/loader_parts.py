"""What of a loader a pass brings to its place, and what it does not: batches that are skipped by index are not made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from backprop_core.script_state.attributes import attributes_of
from backprop_core.script_state.walk import is_loader

_ENDLESS: Final = "_InfiniteConstantSampler"
"""What torch gives a loader over an IterableDataset, which is read again from its beginning."""
_MAKERS: Final = ("dataset", "collate_fn")
_ORDER: Final = ("sampler", "batch_sampler")


def made_by_index(loader: object) -> Mapping[str, Any] | None:
    """What makes the batches of a torch loader that skips by index, in this process; None of any other object."""
    if not is_loader(type(loader)):
        return None
    held = dict(attributes_of(loader))
    if held.get("num_workers") or type(held.get("sampler")).__name__ == _ENDLESS:
        return None
    return {name: held[name] for name in _MAKERS if held.get(name) is not None}


def brought_by_a_pass(loader: object) -> list[object]:
    """What a resumed pass brings to its place: what decides the order, or all of a loader that is read again."""
    if made_by_index(loader) is None:
        return [loader]
    held = dict(attributes_of(loader))
    return [held[name] for name in _ORDER if held.get(name) is not None]
