"""A look at some objects that costs microseconds, and tells whether a thorough one is worth its time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from operator import is_
from typing import Any, Final

import torch

from backprop_core.script_state.attributes import attributes_of
from backprop_core.script_state.namespace import Namespace

_COLLECTIONS: Final = (list, deque, set)


class QuickLook:
    """Objects as they were: which objects their attributes and members are, and what arrays hold.

    What was seen is held until the next look, so that nothing new can lie at the address of something that is gone.

    Args:
        objects: no code of theirs runs. Arrays among them are small: they are compared whole.
        namespaces: their names are looked up anew each time.
    """

    def __init__(self, objects: Iterable[object], namespaces: Iterable[Namespace]) -> None:
        objects = list(objects)
        self._arrays = [one for one in objects if _is_array(one)]
        self._others = [one for one in objects if not _is_array(one)]
        self._namespaces = list(namespaces)
        self._seen, self._marks = self._look()

    def differs(self) -> bool:
        """Whether anything is not as it was at the last look."""
        seen, marks = self._look()
        same = len(seen) == len(self._seen) and all(map(is_, seen, self._seen)) and marks == self._marks
        self._seen, self._marks = seen, marks
        return not same

    def _look(self) -> tuple[list[object], list[object]]:
        seen: list[object] = []
        for one in self._others:
            if isinstance(one, dict):
                seen += dict.keys(one)
                seen += dict.values(one)
            elif isinstance(one, _COLLECTIONS):
                seen += one
            else:
                seen += [value for _, value in attributes_of(one)]
        for names in self._namespaces:
            seen += [value for _, value in names.items()]
        return seen, [_mark(one) for one in self._arrays]


def _is_array(value: object) -> bool:
    kind = type(value)
    return issubclass(kind, torch.Tensor) or (kind.__module__ == "numpy" and hasattr(kind, "nbytes"))


def _mark(array: Any) -> object:
    if isinstance(array, torch.Tensor):
        return array._version
    return array.tobytes()
