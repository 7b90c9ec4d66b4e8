"""Models that live in a library's own memory (XGBoost, LightGBM, CatBoost): they change, and nothing of it shows in Python.

What they are is told by their form, not by their names: an object that predicts, and that holds a pointer or shows nothing
of itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from backprop_core.script_state.attributes import attributes_of, classes_of, layout_of, own_names, type_text
from backprop_core.script_state.namespace import Namespace
from backprop_core.script_state.script_classes import is_the_scripts
from backprop_core.script_state.unkept import Unkept, unseen_model
from backprop_core.true_class import is_a

_POINTERS = frozenset({"ctypes", "_ctypes"})
_DEEP = 3
_MOST_MEMBERS = 200


def unseen_models(namespaces: Iterable[Namespace]) -> list[Unkept]:
    """Those that the script's variables hold, also in its collections and in attributes of its objects."""
    found: dict[int, Unkept] = {}
    for space in namespaces:
        for name, value in space.items():
            for path, model in _models_in(value, f"{space.name}.{name}", _DEEP):
                found.setdefault(id(model), unseen_model(path, type_text(type(model))))
    return list(found.values())


def _models_in(value: Any, path: str, deep: int) -> Iterator[tuple[str, Any]]:
    if is_unseen_model(value):
        yield path, value
        return
    if deep == 0:
        return
    for name, member in _members(value):
        yield from _models_in(member, f"{path}{name}", deep - 1)


def _members(value: Any) -> Iterable[tuple[str, Any]]:
    if type(value) in (list, tuple):
        return [(f"[{n}]", one) for n, one in enumerate(value[:_MOST_MEMBERS])]
    if type(value) is dict:
        return [(f"[{key!r}]", value[key]) for key in list(value)[:_MOST_MEMBERS] if type(key) in (str, int)]
    if not type_text(type(value)).startswith("builtins.") and is_the_scripts(type(value)):
        return [(f".{name}", one) for name, one in attributes_of(value)]
    return []


def is_unseen_model(value: object, deep: int = 2) -> bool:
    """Whether `value` is a model that lies, itself or in an attribute of an installed package's, where nobody can look."""
    kind = type(value)
    if is_a(value, type) or not any("predict" in own_names(one) for one in classes_of(kind)):
        return False
    dictionary, members = layout_of(kind)
    if dictionary is None and not members:
        return not is_the_scripts(kind)
    attributes = [one for _, one in attributes_of(value)]
    if any(type(one).__module__ in _POINTERS for one in attributes):
        return True
    return not is_the_scripts(kind) and deep > 0 and any(is_unseen_model(one, deep - 1) for one in attributes)
