"""Where a script's own variables live while it trains: its modules, and the functions between them and the running loop."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FrameType, ModuleType
from typing import Any, Final

from backprop_core.loop.script_watch import modules_beside_script, notebooks_own
from backprop_core.loop.seen_objects import SeenObjects
from backprop_core.script_state.attributes import attributes_of
from backprop_core.script_state.liveness import live_names
from backprop_core.script_state.namespace import DictNamespace, FrameNamespace, Namespace
from backprop_core.script_state.script_classes import is_the_scripts

_NEAR: Final = 3
"""So far from a variable: `runs["a"][0].model`."""
_MOST_MEMBERS: Final = 1_000
_COLLECTIONS: Final = (list, tuple, dict, set, deque)


class ScriptFrames:
    """The namespaces of a rewritten script.

    Args:
        modules: names of the modules whose loops are counted; `__main__` is called "main". Other modules of the script's
            are found. The one that `python -m` runs is loaded as `__main__`, also where it lies in an installed package.
    """

    def __init__(self, modules: Sequence[str] = ("__main__",)) -> None:
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        self.modules = list(modules)
        if spec is not None and spec.name in self.modules:
            self.add("__main__")
        self._beside: tuple[int, list[str]] = (0, [])
        self._live: dict[tuple[CodeType, int], frozenset[str]] = {}
        self._read_last: dict[str, frozenset[str]] = {}
        """Of modules that were being executed when they were last looked at."""

    def add(self, module: str) -> None:
        """One more module is the script's own."""
        if module not in self.modules:
            self.modules.append(module)

    def namespaces(self, frame: FrameType | None) -> list[Namespace]:
        """Of the modules that are loaded, then of the functions from the outermost in to `frame`."""
        found: list[Namespace] = []
        for name in self._modules():
            module = sys.modules.get(name)
            if module is not None:
                called = "main" if name == "__main__" else name
                running = _module_frame(module, frame)
                if "get_ipython" in vars(module):  # what no cell reads now, another may read later
                    skip = notebooks_own(vars(module))
                    found.append(DictNamespace(vars(module), called, skip=skip))
                elif running is not None:
                    self._read_last[name] = self._live_in(running)
                    found.append(_LiveModule(vars(module), called, self._read_last[name]))
                elif name in self._read_last:  # it is over: what was not compared before is not new
                    found.append(_LiveModule(vars(module), called, self._read_last[name]))
                else:
                    found.append(DictNamespace(vars(module), called))
        count: dict[str, int] = {}
        for one in reversed(list(self._functions(frame))):
            name = f"{one.f_code.co_qualname}()"
            count[name] = count.get(name, 0) + 1
            number = f"[{count[name]}]" if count[name] > 1 else ""
            found.append(_Live(one, f"{name}{number}", self._live_in(one)))
        return found

    def values(self, frame: FrameType | None) -> SeenObjects:
        """What all these variables hold, and what is near in that."""
        found = SeenObjects()
        for space in self.namespaces(frame):
            every = getattr(space, "every_item", space.items)
            near = found.add([value for _, value in every()])
            for _ in range(_NEAR):
                further: list[object] = []
                for value in near:
                    members = _members_of(value)
                    if members is not None:
                        further += found.look_into(value, members)
                near = further
        return found

    def _modules(self) -> list[str]:
        loaded = len(sys.modules)
        if self._beside[0] != loaded:
            beside = modules_beside_script()
            self._beside = loaded, beside
        return [*self.modules, *(name for name in self._beside[1] if name not in self.modules)]

    def _functions(self, frame: FrameType | None) -> Iterator[FrameType]:
        own = {id(vars(sys.modules[name])) for name in self._modules() if name in sys.modules}
        while frame is not None:
            if id(frame.f_globals) in own and frame.f_code.co_name != "<module>":
                yield frame
            frame = frame.f_back

    def _live_in(self, frame: FrameType) -> frozenset[str]:
        key = (frame.f_code, frame.f_lasti)
        if key not in self._live:
            self._live[key] = live_names(frame.f_code, frame.f_lasti)
        return self._live[key]


def _members_of(value: object) -> list[object] | None:
    """What a small collection or an object of the script's holds itself; None where nobody looks into it."""
    kind = type(value)
    if kind in _COLLECTIONS:
        if len(value) > _MOST_MEMBERS:  # type: ignore[arg-type]
            return None
        return list(value.values()) if isinstance(value, dict) else list(value)  # type: ignore[call-overload]
    if kind.__module__ == "builtins" or not is_the_scripts(kind):
        return None
    return [one for _, one in attributes_of(value)]


class _Live(FrameNamespace):
    """A function's variables, without those that are given a value before they are read again."""

    def __init__(self, frame: FrameType, name: str, live: frozenset[str]) -> None:
        super().__init__(frame, name)
        self._names = live

    def items(self) -> list[tuple[str, object]]:
        return [(name, value) for name, value in super().items() if name in self._names]

    def every_item(self) -> Iterable[tuple[str, object]]:
        """Also those that are not kept."""
        return super().items()

    def delete(self, name: str) -> None:
        """What is not listed need not be gone: nobody reads it any more."""


class _LiveModule(DictNamespace):
    """The variables of a module that is being executed, without those that get a new value before they are read."""

    def __init__(self, values: dict[str, Any], name: str, live: frozenset[str]) -> None:
        super().__init__(values, name)
        self._live = live

    def items(self) -> list[tuple[str, object]]:
        return [(name, value) for name, value in super().items() if name in self._live]

    def every_item(self) -> Iterable[tuple[str, object]]:
        """Also those that are not kept."""
        return super().items()

    def delete(self, name: str) -> None:
        """As for a function."""


def _module_frame(module: ModuleType, frame: FrameType | None) -> FrameType | None:
    """The frame that executes the module, if that is not over."""
    while frame is not None:
        if frame.f_globals is vars(module) and frame.f_code.co_name == "<module>":
            return frame
        frame = frame.f_back
    return None


_TRAINERS = (
    "transformers.trainer",
    "keras.src.trainers",
    "keras.src.backend",
    "lightning.pytorch",
    "pytorch_lightning",
)
"""Modules of trainers that have an adapter of their own, which opens the session."""


def has_an_adapter(frame: FrameType | None) -> bool:
    """Whether one of those trainers takes the step."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(_TRAINERS):
            return True
        frame = frame.f_back
    return False
