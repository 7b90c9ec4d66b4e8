"""Functions of the script's: which are its own, and what they keep between two calls."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any, Final

CACHED: Final = functools._lru_cache_wrapper
COMPILED: Final = "tensorflow.python.eager.polymorphic_function.polymorphic_function.Function"
"""The type of what `tf.function` makes. Of it only the script's function is looked at: it is traced again."""
_NEVER_CHANGE: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, type, types.FunctionType, types.BuiltinFunctionType}
)


def has_state(function: Any, *, cached: bool = False) -> bool:
    """Whether a function is the script's and has variables of its own: from the function around it, hung onto it, or in
    what its arguments are where they are not given. One that a package has wrapped is looked for inside of it.

    Args:
        cached: the results that it gave are kept, so that it need not have any.
    """
    if type(function) is not types.FunctionType:
        return False
    if not is_script_file(function.__code__.co_filename):
        return has_state(vars(function).get("__wrapped__"))
    if cached or function.__dict__ or any(name != "__class__" for name in function.__code__.co_freevars):
        return True
    given = defaults_of(function).values() if function.__defaults__ or function.__kwdefaults__ else ()
    return any(type(one) not in _NEVER_CHANGE for one in given)


def defaults_of(function: Any) -> dict[str, object]:
    """What the arguments of a function are where they are not given, by name."""
    code, given = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    return {
        **dict(zip(names[len(names) - len(given) :], given, strict=True)),
        **(function.__kwdefaults__ or {}),
    }


def function_behind(value: Any) -> Any:
    """The function of what stands in a class: a method, a static or class method, a property."""
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    return value.fget if type(value) is property else value


def is_script_file(path: str) -> bool:
    """Whether a source file is the user's own, and neither of an installed package nor of Python."""
    if "site-packages" in path or "dist-packages" in path or path.startswith("<frozen"):
        return False
    if (
        path == "sys"
    ):  # the call of the script by `backprop_startup.ending`, which warnings name as Python's own
        return False
    return not path.startswith(_LIBRARY)


_LIBRARY: Final = (
    inspect.__file__.rpartition("/")[0] + "/",
    __file__.rpartition("/backprop_core/")[0] + "/backprop",
)
