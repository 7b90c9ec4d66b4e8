"""Tensors that end an autograd graph: no checkpoint holds the graph, so it matters whether it is still to be used."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch

_MOST_NODES = 500


def awaits_backward(value: object) -> bool:
    """Whether a backward pass may still go through the graph that `value` ends: none has freed it yet."""
    if not issubclass(type(value), torch.Tensor):
        return False
    first = getattr(value, "grad_fn", None)
    if first is None:
        return False
    pending, seen = deque([first]), {first}
    while pending and len(seen) < _MOST_NODES:
        node = pending.popleft()
        if _is_freed(node):
            return False
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                pending.append(following)
    return True


def _is_freed(node: Any) -> bool:
    """Whether a backward pass went through `node`, which has let go of what it had saved for it."""
    for name in dir(node):
        if name == "saved_tensors" or name.startswith("_saved_"):
            try:
                getattr(node, name)
            except RuntimeError:
                return True
    return False
