"""Generators that a script makes when it first needs them: a resumed process has not come there yet, and makes them itself.

To call a generator function runs nothing of it. That is done only for one that takes no arguments, or the object alone in
which its generator lies.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable
from functools import partial
from types import GeneratorType
from typing import Any, NamedTuple

from backprop_core.script_state.attributes import set_attribute
from backprop_core.script_state.namespace import FrameNamespace, Namespace


class _Place(NamedTuple):
    """A variable, or an attribute of what is in one.

    Attributes:
        functions: by name, those that may have made what lies there.
        arguments: what they were called with.
        put: puts a value there.
    """

    functions: Callable[[str], Any]
    arguments: tuple[Any, ...]
    put: Callable[[object], None]


def maker_of(name: str, generator: Any, namespaces: Iterable[Namespace]) -> str:
    """The name of the function, beside it or of its object's class, that has made a generator; empty where unsure."""
    if type(generator) is not GeneratorType or generator.gi_frame is None:
        return ""
    code, place = generator.gi_code, _place(name, namespaces)
    if place is None or getattr(place.functions(code.co_name), "__code__", None) is not code:
        return ""
    count = code.co_argcount + code.co_kwonlyargcount
    variadic = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    variables = dict(FrameNamespace(generator.gi_frame, "generator").items())
    given = tuple(variables.get(one) for one in code.co_varnames[:count])
    same = len(given) == len(place.arguments) and all(map(operator.is_, given, place.arguments))
    return code.co_name if same and not variadic and not code.co_freevars else ""


def made_again(name: str, maker: str, namespaces: Iterable[Namespace]) -> Any:
    """A generator that `maker` makes, in its place; None where there is no such function."""
    place = _place(name, namespaces)
    make = None if place is None else place.functions(maker)
    if place is None or not inspect.isgeneratorfunction(make):
        return None
    made = make(*place.arguments)
    place.put(made)
    return made


def _place(name: str, namespaces: Iterable[Namespace]) -> _Place | None:
    for space in namespaces:
        if not name.startswith(f"{space.name}."):
            continue
        variables = dict(space.items())
        variable, _, attribute = name.removeprefix(f"{space.name}.").partition(".")
        if variable not in variables or not variable.isidentifier():
            continue
        if not attribute:
            return _Place(variables.get, (), partial(space.set, variable))
        if attribute.isidentifier():
            holder = variables[variable]
            return _Place(
                partial(_method_of, type(holder)), (holder,), partial(set_attribute, holder, attribute)
            )
    return None


def _method_of(kind: type, name: str) -> Any:
    return getattr(kind, name, None)
