"""Writing into objects that exist, through the methods of Python's own types and not those of the script's classes."""

from __future__ import annotations

import array
from collections import deque
from typing import Any

from backprop_core.script_state.attributes import delete_attribute, mapping_base, own_names, set_attribute
from backprop_core.script_state.kinds import Kind


def fill(target: Any, kind: Kind, members: dict[str, list[Any]], data: bytes | None) -> None:
    """Give a collection these members and no others."""
    if kind is Kind.LIST:
        list.__setitem__(target, slice(None), members["items"])
    elif kind is Kind.DICT:
        base = mapping_base(target)  # a dict's own methods would break an OrderedDict
        base.clear(target)
        for key, value in zip(members["keys"], members["values"], strict=True):
            base.__setitem__(target, key, value)
    elif kind is Kind.SET:
        set.clear(target)
        set.update(target, members["items"])
    elif kind is Kind.DEQUE:
        deque.clear(target)
        deque.extend(target, members["items"])
    elif isinstance(target, array.array):
        del target[:]
        target.frombytes(data or b"")
    else:
        bytearray.__setitem__(target, slice(None), data or b"")


def set_slot(target: Any, kind: Kind, name: str, value: object) -> None:
    """Set a name in a namespace, an instance or a function's surroundings."""
    if kind is Kind.NAMESPACE:
        target.set(name, value)
    elif kind is Kind.CLASS:
        type.__setattr__(target, name, value)
    elif kind is Kind.CLOSURE:
        cell = _cell(target, name)
        if cell is None:
            vars(target)[name] = value
        else:
            cell.cell_contents = value
    else:
        set_attribute(target, name, value)


def unset_slot(target: Any, kind: Kind, name: str) -> None:
    """Delete a name where it is."""
    if kind is Kind.NAMESPACE:
        target.delete(name)
    elif kind is Kind.CLASS:
        if name in own_names(target):
            type.__delattr__(target, name)
    elif kind is Kind.CLOSURE:
        vars(target).pop(name, None)
    else:
        delete_attribute(target, name)


def _cell(function: Any, name: str) -> Any:
    names = function.__code__.co_freevars
    return function.__closure__[names.index(name)] if name in names else None
