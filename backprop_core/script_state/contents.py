"""What a node holds, kind by kind: plain values as they are, references for the rest."""

from __future__ import annotations

import enum
import functools
import sys
import types
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from backprop_core.script_state.attributes import (
    attributes_of,
    classes_of,
    mapping_base,
    own_names,
    type_text,
)
from backprop_core.script_state.functions import COMPILED, defaults_of, function_behind, is_script_file
from backprop_core.script_state.graph import Node
from backprop_core.script_state.held_values import cache_of
from backprop_core.script_state.kinds import MARSHALLED, VALUES, Kind
from backprop_core.script_state.paths import (
    ATTRIBUTE,
    CACHED,
    CELL,
    DEFAULT,
    FUNCTION,
    KEY,
    KEY_AT,
    OF_CLASS,
    PART,
    VALUE_AT,
    Step,
)
from backprop_core.script_state.values import STANDARD

_TRIES: Final = 3
_TEXT: Final = {str}
_OBJECTS: Final = {object}
_PARTS: Final = {functools.partial: ("func", "args", "keywords"), types.MethodType: ("__self__", "__func__")}
_PYTHONS: Final = (types.GetSetDescriptorType, types.MemberDescriptorType)
COLD_FROM: Final = 5_000
"""A collection of so many objects is compared by which objects they are, as long as it is the same."""


class Meets(Protocol):
    """The walk, which meets what a node refers to."""

    @property
    def is_first(self) -> bool:
        """Whether no walk was before it."""
        ...

    def is_as_it_was(self, node: Node) -> bool:
        """Whether a large collection need not be looked into."""
        ...

    def place(self, node: Node, value: object, step: Step) -> Any:
        """How `value` is written in its place in `node`."""
        ...

    def places(self, node: Node, values: Sequence[object]) -> list[Any]:
        """The members of a sequence in their places, where not all of them are plain."""
        ...


class Contents:
    """Fills nodes. Collections are copied in one go, so that another thread cannot change them meanwhile."""

    def __init__(self, walk: Meets) -> None:
        self._walk = walk
        self._fills: Mapping[Kind, Callable[[Node], Any]] = {
            Kind.LIST: self._list,
            Kind.DICT: self._dict,
            Kind.SET: self._set,
            Kind.FROZENSET: self._set,
            Kind.DEQUE: self._deque,
            Kind.BYTES: _bytes,
            Kind.INSTANCE: self._instance,
            Kind.CLOSURE: self._closure,
            Kind.CLASS: self._class,
            Kind.BOUND: self._bound,
            Kind.NAMESPACE: self._namespace,
            Kind.RANDOM: self._random,
            Kind.HELD: self._cached,
        }

    def fill(self, node: Node) -> None:
        """Look into `node`; what it refers to is met by the walk."""
        fill = self._fills.get(node.kind)
        if fill is None:  # arrays, generators and the like are looked at where they are compared
            return
        for _ in range(_TRIES):
            try:
                node.data = fill(node)
            except RuntimeError:  # it changed while it was copied
                node.refs.clear()
                continue
            return
        node.trouble = "another thread keeps changing it"

    def close(self) -> None:
        """Let go of the walk."""
        self._fills = {}

    def _is_cold(self, node: Node, length: int) -> bool:
        """A first walk leaves large collections of objects alone; a later one, too, as long as they hold the same."""
        if length < COLD_FROM:
            return False
        node.cold = self._walk.is_first or self._walk.is_as_it_was(node)
        return node.cold

    def _list(self, node: Node) -> Any:
        items = self._items(node, list)
        return None if items is None else self._with_attributes(node, {"items": items})

    def _deque(self, node: Node) -> Any:
        items = self._items(node, deque)
        if items is None:
            return None
        return self._with_attributes(node, {"items": items, "maxlen": node.value.maxlen})

    def _items(self, node: Node, base: Any) -> list[Any] | None:
        """The members in their places; None where they are not looked into. A million are not gone through in vain."""
        value, length = node.value, base.__len__(node.value)
        node.holds_text = False
        holds_objects = type(next(base.__iter__(value), None)) not in MARSHALLED
        if holds_objects and self._is_cold(node, length):
            return None
        members = value.copy() if type(value) is list else list(base.__iter__(value))
        kinds = _OBJECTS if holds_objects else set(map(type, members))
        if kinds <= MARSHALLED:
            node.holds_text = kinds == _TEXT
            return members
        if not holds_objects and self._is_cold(node, length):
            return None
        return self._walk.places(node, members)

    def _dict(self, node: Node) -> Any:
        data = self._members(node)
        if data is not None and type(node.value) is defaultdict:
            data["factory"] = self._walk.place(
                node, node.value.default_factory, (ATTRIBUTE, "default_factory")
            )
        return data

    def _members(self, node: Node) -> Any:
        if type(node.value) is dict and not node.value:  # three of four that a module has
            return {"keys": [], "values": []}
        pairs = list(mapping_base(node.value).items(node.value))
        values = [value for _, value in pairs]
        plain = set(map(type, values)) <= MARSHALLED
        if not plain and self._is_cold(node, len(values)):
            return None
        keys = [key for key, _ in pairs]
        if set(map(type, keys)) <= MARSHALLED:
            place = self._walk.place
            placed: list[Any] = values if plain else [place(node, value, (KEY, key)) for key, value in pairs]
            return self._with_attributes(node, {"keys": keys, "values": placed})
        return self._with_attributes(node, self._dict_of_objects(node, pairs))

    def _dict_of_objects(self, node: Node, pairs: list[tuple[object, object]]) -> Any:
        place = self._walk.place
        keys, values = [], []
        for number, (key, value) in enumerate(pairs):
            plain = type(key) in MARSHALLED
            keys.append(key if plain else place(node, key, (KEY_AT, number)))
            values.append(place(node, value, (KEY, key) if plain else (VALUE_AT, number)))
            if not plain and not _hashes_by_itself(type(key)):
                node.trouble = f"its keys are {type(key).__name__} objects with a hash function of their own"
        return {"keys": keys, "values": values}

    def _set(self, node: Node) -> Any:
        members = list(node.value.copy() if type(node.value) is set else iter(node.value))
        if not set(map(type, members)) <= MARSHALLED:
            placed = [
                self._walk.place(node, one, (KEY_AT, n)) for n, one in enumerate(members) if _is_plain(one)
            ]
            if len(placed) < len(members):
                node.trouble = "it is a set of objects, which have no order to find them again by"
                return {"items": sorted(id(one) for one in members)}
            return {"items": placed}
        return self._with_attributes(node, {"items": members})

    def _instance(self, node: Node) -> Any:
        skip = node.plan.skip
        place = self._walk.place
        return {
            "slots": {
                name: place(node, value, (ATTRIBUTE, name))
                for name, value in attributes_of(node.value)
                if name not in skip
            }
        }

    def _with_attributes(self, node: Node, data: dict[str, Any]) -> Any:
        """A class that derives from a collection may have attributes as well."""
        if node.plan.dictionary is not None or node.plan.members:
            data |= self._instance(node)
        return data

    def _closure(self, node: Node) -> Any:
        slots, place = {}, self._walk.place
        for name, value in defaults_of(node.value).items():
            if type(value) not in MARSHALLED:
                place(node, value, (DEFAULT, name))  # it stays the same, and what is in it may change
        if not is_script_file(node.value.__code__.co_filename):
            place(node, vars(node.value)["__wrapped__"], (ATTRIBUTE, "__wrapped__"))
            return {"slots": {}}
        for name, cell in zip(node.value.__code__.co_freevars, node.value.__closure__ or (), strict=True):
            try:
                slots[name] = place(node, cell.cell_contents, (CELL, name))
            except ValueError:  # not set yet
                continue
        for name, value in list(vars(node.value).items()):
            slots.setdefault(name, place(node, value, (ATTRIBUTE, name)))
        return {"slots": slots}

    def _class(self, node: Node) -> Any:
        """Values alone: what has a `__get__` is asked by every access, and belongs to the code."""
        slots, place = {}, self._walk.place
        for name, value in list(own_names(node.value).items()):
            function = function_behind(value)
            if type(function) is types.FunctionType:
                place(node, function, (FUNCTION, name))  # it stays the same, and what it keeps may change
            elif _is_pythons(name) or type(value) in _PYTHONS:
                continue
            elif any("__get__" in own_names(one) for one in classes_of(type(value))):
                place(node, value, (OF_CLASS, name))  # such a descriptor, too
            else:
                slots[name] = place(node, value, (OF_CLASS, name))
        return {"slots": slots}

    def _random(self, node: Node) -> Any:
        return self._instance(node) if node.plan.dictionary is not None else None

    def _cached(self, node: Node) -> Any:
        results = cache_of(node.value)
        if results is not None:
            self._walk.place(node, results, (CACHED, ""))
        return None

    def _bound(self, node: Node) -> Any:
        names = _parts_of(type(node.value))
        place = self._walk.place
        return {"slots": {name: place(node, getattr(node.value, name), (PART, name)) for name in names}}

    def _namespace(self, node: Node) -> Any:
        place = self._walk.place
        return {"slots": {name: place(node, value, (ATTRIBUTE, name)) for name, value in node.value.items()}}


def _parts_of(kind: type) -> tuple[str, ...]:
    if type_text(kind) == COMPILED:
        return ("__wrapped__",)
    return _PARTS.get(kind, ("__self__", "__name__"))


def _bytes(node: Node) -> Any:
    return {"bytes": bytes(node.value), "code": getattr(node.value, "typecode", None)}


def _is_pythons(name: str) -> bool:
    return (name.startswith("__") and name.endswith("__")) or name.startswith("_abc_")


def _is_plain(value: object) -> bool:
    kind = type(value)
    return kind in VALUES or type_text(kind) in STANDARD or issubclass(kind, enum.Enum) or kind is tuple


def _hashes_by_itself(kind: type) -> bool:
    """Whether to put such a key into a dictionary runs no code of the script's."""
    package = kind.__module__.partition(".")[0]
    if package in ("torch", "builtins", "numpy") or package in sys.stdlib_module_names:
        return True
    if issubclass(kind, enum.Enum | tuple):
        return True
    return kind.__hash__ is object.__hash__ and kind.__eq__ is object.__eq__
