"""Places in which a script keeps names: a module's globals, an instance's attributes, a running function's locals."""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final, Protocol

from backprop_core.script_state.attributes import attributes_of, delete_attribute, set_attribute

MODULE: Final = "module"
"""How a checkpoint calls the globals of a module."""

_WRITES_THROUGH: Final = sys.version_info >= (3, 13)
"""From Python 3.13 on (PEP 667) `frame.f_locals` of a function is its variables, and no copy of them."""

_TRACERS: Final = (
    *(
        "__builtins_dict__",
        "__compiled_fn_",
        "__comprehension_",
        "__gen_rand_values_",
        "__import_",
        "__resume_at_",
    ),
    "__warnings_warn_wrapper_",
)
"""How names begin that `torch.compile` puts into the globals of what it compiles, and will not find there before it does."""


class NotSetError(Exception):
    """This process does not take a value; half a sentence says why."""


class Namespace(Protocol):
    """Names and what they stand for. `name` is the same in every process, such as `main` or `train()`.

    Attributes:
        loops_counted: the passes of loops over a loader in one of its variables are counted, so such an iterator finds its
            place with its loop.
    """

    loops_counted: bool

    @property
    def name(self) -> str: ...

    def items(self) -> Iterable[tuple[str, object]]: ...

    def set(self, name: str, value: object) -> None: ...

    def delete(self, name: str) -> None: ...


class DictNamespace:
    """The globals of a module, or any other dictionary of names. Names in double underscores are Python's own."""

    def __init__(
        self,
        values: dict[str, Any],
        name: str,
        *,
        skip: frozenset[str] = frozenset(),
        loops_counted: bool = True,
    ) -> None:
        self.name = name
        self.loops_counted = loops_counted
        self._values = values
        self._skip = skip

    def items(self) -> Iterable[tuple[str, object]]:
        return [
            (name, value)
            for name, value in list(self._values.items())
            if not _is_pythons(name) and name not in self._skip
        ]

    def set(self, name: str, value: object) -> None:
        self._values[name] = value

    def delete(self, name: str) -> None:
        self._values.pop(name, None)


class InstanceNamespace:
    """The attributes of one object, read and written without asking its class.

    Args:
        skip: attributes that are no part of the state.
    """

    loops_counted = False

    def __init__(self, instance: object, name: str, *, skip: frozenset[str] = frozenset()) -> None:
        self.name = name
        self._instance = instance
        self._skip = skip

    def items(self) -> Iterable[tuple[str, object]]:
        return [(name, value) for name, value in attributes_of(self._instance) if name not in self._skip]

    def set(self, name: str, value: object) -> None:
        set_attribute(self._instance, name, value)

    def delete(self, name: str) -> None:
        delete_attribute(self._instance, name)


class FrameNamespace:
    """The local variables of a running function, cell variables included; the globals, for the frame of a module."""

    def __init__(self, frame: FrameType, name: str, *, loops_counted: bool = True) -> None:
        self.name = name
        self.loops_counted = loops_counted
        self._frame = frame

    def items(self) -> Iterable[tuple[str, object]]:
        asked = self._frame.f_locals
        found = [(name, value) for name, value in list(asked.items()) if not _is_pythons(name)]
        self._forget(asked)
        return found

    def set(self, name: str, value: object) -> None:
        asked: Any = self._frame.f_locals
        asked[name] = value
        self._written(asked)

    def delete(self, name: str) -> None:
        asked: Any = self._frame.f_locals
        if name not in asked:
            return
        if _WRITES_THROUGH and self._is_function():  # such a variable cannot be unset, only emptied
            asked[name] = None
            return
        del asked[name]
        self._written(asked)

    def _is_function(self) -> bool:
        return bool(self._frame.f_code.co_flags & inspect.CO_OPTIMIZED)

    def _written(self, asked: Any) -> None:
        if not _WRITES_THROUGH and self._is_function():
            ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(self._frame), ctypes.c_int(1))
            self._forget(asked)

    def _forget(self, asked: Any) -> None:
        """Up to Python 3.12 the frame keeps the copy, and everything in it, until somebody asks again."""
        if not _WRITES_THROUGH and self._is_function():
            asked.clear()


def _is_pythons(name: str) -> bool:
    if not name.startswith("__"):
        return not name.isidentifier()
    return name.endswith("__") or name.startswith(_TRACERS) or not name.isidentifier()
