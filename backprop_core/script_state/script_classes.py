"""Classes of the script's: which are its own, and which of them may keep values."""

from __future__ import annotations

import enum
import sys
import types
from typing import Final

from backprop_core.script_state.functions import is_script_file


def is_the_scripts(kind: type) -> bool:
    """Whether a class is defined in the user's own code."""
    module = sys.modules.get(type.__dict__["__module__"].__get__(kind))
    if module is None:
        return True
    path = vars(module).get("__file__")
    return not isinstance(path, str) or is_script_file(path)


def is_of_the_script(one: object) -> bool:
    """Whether a class or a function is defined in the user's own code."""
    if isinstance(one, type):
        return is_the_scripts(one)
    return type(one) is types.FunctionType and is_script_file(one.__code__.co_filename)


def keeps_values(kind: type) -> bool:
    """Whether a class is the script's own and may keep values itself: not an enum, nor one that no file defines."""
    if issubclass(kind, enum.Enum) or not kind.__flags__ & _IN_MEMORY:
        return False
    module = type.__dict__["__module__"].__get__(kind)
    if module in ("__main__", "__mp_main__"):
        return True
    path = getattr(sys.modules.get(module), "__file__", None)
    return isinstance(path, str) and is_script_file(path)


_IN_MEMORY: Final = 1 << 9
"""A flag of classes that a `class` statement has made."""
