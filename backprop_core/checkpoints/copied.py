"""A copy of a state in memory: arrays by their translators, because a framework's own deep copy refuses what is no leaf."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from .arrays import Translator, allocate_ram


def copied(value: Any, translators: Sequence[Translator]) -> Any:
    """`value` with nothing in it that a training could still change; arrays that are one stay one.

    Args:
        value: what a checkpoint could hold: plain values and collections, and arrays of any framework.
    """
    return _Copying(translators).of(value)


class _Copying:
    def __init__(self, translators: Sequence[Translator]) -> None:
        self._translators = translators
        self._made: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        if id(value) in self._made:
            return self._made[id(value)]
        made = self._new(value)
        self._made[id(value)] = made
        return made

    def _new(self, value: Any) -> Any:
        kind = type(value)
        if kind is dict:
            return {self.of(key): self.of(inner) for key, inner in value.items()}
        if kind is list or kind is tuple:
            return kind(self.of(inner) for inner in value)
        for translator in self._translators:
            if translator.handles(value):
                node = translator.take_apart(value)
                arrays = {}
                for name, dense in node.arrays.items():
                    arrays[name] = allocate_ram(dense.nbytes, staging=False)
                    dense.copy_into(arrays[name])
                translator.synchronize()
                return translator.build(node.tag, node.meta, arrays)
        if isinstance(value, dict):  # a framework's ordered one, with attributes that nobody reads back
            return {self.of(key): self.of(inner) for key, inner in value.items()}
        return copy.deepcopy(value)
