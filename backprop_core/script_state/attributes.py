"""Where an object has its attributes, and how they are read and written where they are stored.

Nothing of the script's runs here: no property, no `__getattr__`, no `__eq__`, no `__class__` of a proxy. Attributes come
from the instance's own dictionary and from the descriptors of `__slots__`.
"""

from __future__ import annotations

import sys
import threading
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any


def mapping_base(value: object) -> Any:
    """The class whose methods read and write a dictionary: an OrderedDict has an order of its own."""
    return OrderedDict if isinstance(value, OrderedDict) else dict


def type_text(kind: type) -> str:
    """`module.Name` of a class, the same in every process."""
    module = type.__dict__["__module__"].__get__(kind)
    return f"{module}.{type.__dict__['__qualname__'].__get__(kind)}"


def class_reference(kind: type) -> list[str]:
    """Module and qualified name of a class, by which another process finds it."""
    return [
        str(type.__dict__["__module__"].__get__(kind)),
        str(type.__dict__["__qualname__"].__get__(kind)),
    ]


def classes_of(kind: type) -> tuple[type, ...]:
    found: tuple[type, ...] = type.__dict__["__mro__"].__get__(kind)
    return found


def own_names(kind: type) -> Any:
    return type.__dict__["__dict__"].__get__(kind)


def layout_of(kind: type) -> tuple[Callable[[object], dict[str, Any]] | None, tuple[tuple[str, Any], ...]]:
    """Where instances of `kind` have their attributes."""
    dictionary: Callable[[object], dict[str, Any]] | None = None
    members: list[tuple[str, Any]] = []
    if issubclass(kind, threading.local):
        dictionary = _of_this_thread
    for one in reversed(classes_of(kind)):
        own = own_names(one)
        found = own.get("__dict__")
        if isinstance(found, types.GetSetDescriptorType | types.MemberDescriptorType) and one is not type:
            dictionary = found.__get__
        if "__slots__" in own:
            for name, descriptor in own.items():
                if isinstance(descriptor, types.MemberDescriptorType) and name != "__weakref__":
                    members.append((name, descriptor))
    return dictionary, tuple(members)


def _of_this_thread(value: object) -> dict[str, Any]:
    found: dict[str, Any] = threading.local.__getattribute__(value, "__dict__")  # type: ignore[arg-type]
    return found


class _Layouts:
    """Layouts of types, found once each."""

    def __init__(self) -> None:
        self._known: dict[type, tuple[Any, tuple[tuple[str, Any], ...]]] = {}

    def of(self, kind: type) -> tuple[Any, tuple[tuple[str, Any], ...]]:
        found = self._known.get(kind)
        if found is None:
            found = self._known[kind] = layout_of(kind)
            if len(self._known) > 10_000:  # classes that a program makes and drops in a loop
                self._known.clear()
        return found


_layouts = _Layouts()


def attributes_of(value: object) -> list[tuple[str, object]]:
    """The attributes of an instance, as they are stored."""
    dictionary, members = _layouts.of(type(value))
    found: list[tuple[str, object]] = []
    for name, descriptor in members:
        try:
            found.append((name, descriptor.__get__(value)))
        except AttributeError:
            continue
    if dictionary is not None:
        found += [(name, one) for name, one in list(dictionary(value).items()) if type(name) is str]
    return found


def attribute_of(value: object, name: str) -> object:
    """One attribute of an instance, as it is stored.

    Raises:
        KeyError: there is none.
    """
    dictionary, members = _layouts.of(type(value))
    for member, descriptor in members:
        if member == name:
            try:
                return descriptor.__get__(value)
            except AttributeError:
                raise KeyError(name) from None
    if dictionary is None:
        raise KeyError(name)
    return dictionary(value)[name]


def set_attribute(value: object, name: str, new: object) -> None:
    """Set an attribute where it is stored; its class is not asked."""
    dictionary, members = _layouts.of(type(value))
    for member, descriptor in members:
        if member == name:
            descriptor.__set__(value, new)
            return
    if dictionary is not None:
        dictionary(value)[sys.intern(name)] = new  # as Python itself does


def delete_attribute(value: object, name: str) -> None:
    """Delete an attribute where it is stored, if it is there."""
    dictionary, members = _layouts.of(type(value))
    for member, descriptor in members:
        if member == name:
            try:
                descriptor.__delete__(value)
            except AttributeError:
                return
            return
    if dictionary is not None:
        dictionary(value).pop(name, None)
