"""The way from a root to a value: readable, and the same in every process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

from backprop_core.script_state.attributes import (
    attribute_of,
    classes_of,
    mapping_base,
    own_names,
)
from backprop_core.script_state.functions import defaults_of, function_behind
from backprop_core.script_state.held_values import cache_of
from backprop_core.script_state.namespace import Namespace

Step: TypeAlias = tuple[str, Any]
"""How to get from a value to one in it, and which: see the constants."""
Path: TypeAlias = tuple[Step, ...]

ROOT: Final = "root"
ATTRIBUTE: Final = "."
KEY: Final = "["
"""The value under a plain key of a dictionary."""
KEY_AT: Final = "k"
"""The n-th key of a dictionary, one that is no plain value."""
VALUE_AT: Final = "v"
"""The value under the n-th key."""
INDEX: Final = "#"
CLASS: Final = "class"
"""A class by `module:name`; it begins a path, as a root does."""
OF_TYPE: Final = "T"
"""The class of a value, or the value where that is a class: the n-th of those that it derives from, itself first."""
OF_CLASS: Final = "t"
"""A value that a class keeps itself."""
PART: Final = "p"
"""What a method is bound to, or what a partial function has been given."""
CELL: Final = "c"
"""A variable of the function around a function, by its name."""
DEFAULT: Final = "d"
"""What an argument of a function is where it is not given, by the argument's name."""
FUNCTION: Final = "f"
"""The function behind a method of a class, by the method's name."""
CACHED: Final = "r"
"""The results that a cached function keeps."""

_MODULES = "._modules"
_LONGEST_KEY: Final = 60


def name_behind(parent: str, step: Step) -> str:
    """The name of what lies behind `step`: `main.ema['w']`, `net.layers.0.seen`."""
    how, which = step
    if how == CACHED:
        return f"{parent}.cache"
    if how in (ATTRIBUTE, CELL, OF_CLASS, PART, DEFAULT, FUNCTION):
        return f"{parent}.{which}"
    if how == KEY:
        if parent.endswith(_MODULES) and type(which) is str:  # as torch itself names a module's children
            return f"{parent[: -len(_MODULES)]}.{which}"
        text = repr(which)
        return f"{parent}[{text if len(text) <= _LONGEST_KEY else text[: _LONGEST_KEY - 3] + '...'}]"
    if how == INDEX:
        return f"{parent}[{which}]"
    return f"{parent}.{'keys' if how == KEY_AT else 'values'}[{which}]"


class NotThereError(LookupError):
    """A path leads nowhere in this process."""


class Roots:
    """The roots of one process by name, and what paths lead to from them."""

    def __init__(
        self,
        roots: Mapping[str, object | Namespace],
        namespaces: Mapping[str, Namespace],
        class_named: Callable[[str], type],
    ) -> None:
        self._class_named = class_named
        self._roots = roots
        self._namespaces = namespaces
        self._listed: dict[str, dict[str, object]] = {}

    def follow(self, path: Path) -> object:
        """What `path` leads to.

        Raises:
            NotThereError: it leads nowhere.
        """
        try:
            begin, name = path[0]
            value: object
            if begin == CLASS:
                value, rest = self._class_named(name), path[1:]
            elif name in self._namespaces:
                if len(path) == 1:
                    return self._namespaces[name]
                value, rest = self._listing(name)[path[1][1]], path[2:]
            else:
                value, rest = self._roots[name], path[1:]
        except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise NotThereError(str(error)) from error
        return self.behind(value, rest)

    def behind(self, value: object, path: Path) -> object:
        """What `path` leads to from `value`.

        Raises:
            NotThereError: it leads nowhere.
        """
        try:
            for how, which in path:
                value = _BEHIND[how](value, which)
        except (LookupError, TypeError, AttributeError, ValueError, RuntimeError, StopIteration) as error:
            raise NotThereError(str(error)) from error
        return value

    def _listing(self, name: str) -> dict[str, object]:
        if name not in self._listed:
            space = self._namespaces[name]
            every = getattr(space, "every_item", space.items)  # also those that are not kept lead somewhere
            self._listed[name] = dict(every())
        return self._listed[name]


def place_in(collection: Any, step: Step) -> tuple[int, object]:
    """The number, from 0, and the value of what lies behind one step in a list, tuple, deque or dictionary.

    Raises:
        NotThereError: nothing, or it is no such step.
    """
    how, which = step
    try:
        if how in (INDEX, VALUE_AT):
            return which, _BEHIND[how](collection, which)
        if how == KEY:
            keys = list(mapping_base(collection).keys(collection))
            number = next(n for n, key in enumerate(keys) if type(key) is type(which) and key == which)
            return number, _BEHIND[how](collection, which)
    except (LookupError, TypeError, StopIteration) as error:
        raise NotThereError(str(error)) from error
    raise NotThereError(f"{how} is no step into a collection")


def _member(value: Any, index: int) -> object:
    if isinstance(value, list):
        return list.__getitem__(value, index)
    if isinstance(value, tuple):
        return tuple.__getitem__(value, index)
    return next(islice(iter(value), index, None))


_BEHIND: Final[Mapping[str, Callable[[Any, Any], object]]] = {
    ATTRIBUTE: attribute_of,
    KEY: dict.__getitem__,
    INDEX: _member,
    KEY_AT: lambda value, index: next(islice(mapping_base(value).keys(value), index, None)),
    VALUE_AT: lambda value, index: next(islice(mapping_base(value).values(value), index, None)),
    OF_CLASS: lambda value, name: own_names(value)[name],
    OF_TYPE: lambda value, index: classes_of(value if isinstance(value, type) else type(value))[index],
    PART: getattr,
    DEFAULT: lambda value, name: defaults_of(value)[name],
    FUNCTION: lambda value, name: function_behind(own_names(value)[name]),
    CACHED: lambda value, which: cache_of(value),
    CELL: lambda value, name: value.__closure__[value.__code__.co_freevars.index(name)].cell_contents,
}
