"""Large arrays in a difference: found again by their paths, where a copy of them would cost too much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backprop_core.checkpoints.arrays import Translator

_SMALL_BYTES = 1 << 16
"""Arrays up to this size are remembered at the beginning of each iteration of an outer loop."""


def without_large(variables: Mapping[str, Any], translators: Sequence[Translator]) -> dict[str, Any]:
    """A difference without its large arrays, which are found by their paths instead."""
    nodes, paths = [], dict(variables["paths"])
    for node in variables["nodes"]:
        array = node["data"].get("array") if isinstance(node["data"], Mapping) else None
        if array is not None and _bytes_of(array, translators) > _SMALL_BYTES:
            paths[node["name"]] = node["path"]
        else:
            nodes.append(node)
    return {**variables, "nodes": nodes, "paths": paths}


def _bytes_of(array: Any, translators: Sequence[Translator]) -> int:
    for translator in translators:
        if translator.handles(array):
            return sum(dense.nbytes for dense in translator.take_apart(array).arrays.values())
    return 0
