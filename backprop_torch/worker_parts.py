"""What a loader's worker changes in its own copy of the dataset, the collate function and the script's variables.

A generator that the dataset holds, or one in a variable of the script's, a counter, a buffer of the last samples: each
worker has its own, and no other process sees it. So the worker itself looks at what differs from how it began, behind
each batch that it makes, and passes that on as bytes. They never leave the memory that it shares with its parent.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any, Final

import torch
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torch.utils.data._utils.worker import WorkerInfo

from backprop_core.errors import StateMismatchError
from backprop_core.loop.script_watch import script_namespaces
from backprop_core.ports.framework import frameworks_in_use
from backprop_core.script_state.attributes import type_text
from backprop_core.script_state.functions import is_script_file
from backprop_core.script_state.namespace import DictNamespace, Namespace
from backprop_core.script_state.state import ScriptState
from backprop_core.script_state.trackables import track
from backprop_core.script_state.unkept import Unkept, changed_in_workers
from backprop_torch.quick_look import QuickLook

MOST_BYTES: Final = 1 << 17
"""How many bytes of changes are noted for a batch."""
_MOST_MEMBERS: Final = 256
_LARGEST_ARRAY: Final = 1 << 16
_MOST_OBJECTS: Final = 1_000
"""So many are looked at behind each batch; a look at all of them takes some milliseconds."""
_FIRST: Final = 4
"""Behind so many batches of its life a worker looks at everything, and then each time their number has doubled, whatever
the quick look says."""
_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_COLLECTIONS: Final = (list, dict, set, deque)
_NEVER: Final = (Optimizer, DataLoader, WorkerInfo)


class WorkerParts:
    """What differs in this process from how its worker began.

    Args:
        parts: what it makes batches with, by name.

    Attributes:
        unkept: what had changed when all was looked at last, and is not passed on.
    """

    def __init__(self, parts: Sequence[tuple[str, object]]) -> None:
        self.unkept: list[Unkept] = []
        self._parts = [(name, part) for name, part in parts if part is not None]
        self._large: dict[int, tuple[Any, int]] = {}
        self._frameworks = frameworks_in_use()
        self._variables = [_Variables(one) for one in _modules(self._parts)]
        self._state = ScriptState(
            [*self._parts, *self._variables],
            tracked_elsewhere=self._is_large,
            frameworks=self._frameworks,
        )
        self._state.baseline()
        self._began_with = tuple(self._large.values())
        self._generators = len(self._state.changed()["nodes"])  # they are always in it
        self._drawn = self._drawn_first = self._draws()
        self._packed = b""
        self._looks = 0
        self._lost: list[Unkept] = []
        self._changes = False
        objects = self._state.looked_into()
        self._too_many = len(objects) > _MOST_OBJECTS
        self._quick = QuickLook(() if self._too_many else objects, self._variables)
        self._handles: frozenset[str] | None = None

    def restore(self, packed: bytes) -> None:
        """Put back what a worker had changed."""
        if not packed:
            return
        try:
            missing = self._state.restore(pickle.loads(packed)).missing
            self._lost = [
                changed_in_workers(one.name, "object", f"was not put back: {one.why}") for one in missing
            ]
        except StateMismatchError as error:
            self._lost = [_of_all(self._parts, f"was not put back: {error}")]
        self._changes = True

    def look(self) -> bytes:
        """What has changed, behind a batch; empty: nothing, or nothing that can be passed on."""
        self._looks += 1
        drawn = self._draws()
        draws = drawn != self._drawn
        if self._too_many:
            self._name_all(drawn, draws=draws)
        elif (moved := self._quick.differs()) or draws or self._changes or self._is_time():
            self._look_at_all(drawn)
            if moved and not self._changes:
                self._quick = QuickLook(self._state.looked_into(), self._variables)
        self._drawn = drawn
        return self._packed

    def _is_time(self) -> bool:
        return self._looks <= _FIRST or not self._looks & (self._looks - 1)

    def _look_at_all(self, drawn: list[object]) -> None:
        nodes = (changed := self._state.changed())["nodes"]
        self._changes = any(node["kind"] != "random" for node in nodes) or len(nodes) != self._generators
        differs = self._changes or drawn != self._drawn_first
        self._packed = pickle.dumps(changed) if differs else b""
        self.unkept = [*self._lost, *self._unkept(), *self._grown()]
        if len(self._packed) > MOST_BYTES:
            largest = max(nodes, key=lambda node: len(pickle.dumps(node)))
            why = f"is larger than the {MOST_BYTES >> 10} kB that are noted for each batch"
            self.unkept.append(changed_in_workers(largest["name"], largest["type"] or largest["kind"], why))
            self._packed = b""

    def _name_all(self, drawn: list[object], *, draws: bool) -> None:
        if self._is_time():
            self._look_at_all(drawn)
        if draws or self._changes:
            self.unkept = [_of_all(self._parts, "holds too much to be looked at behind each batch")]
            self._packed = b""

    def _draws(self) -> list[object]:
        """The states of the generators that were there when the worker began, to be compared."""
        return [
            one.getstate()
            if isinstance(one, random.Random)
            else _comparable(track(name, one, self._frameworks).capture())
            for name, one in self._state.generators()
        ]

    def _unkept(self) -> list[Unkept]:
        """What cannot be stored. A file or a connection that a package opens for the first batch is opened again."""
        found = self._state.unkept()
        handles = [one.name for one in found if not _is_the_scripts(one.type)]
        if self._handles is None:
            self._handles = frozenset(handles)
        return [
            changed_in_workers(one.name, one.type, one.why.removeprefix("it "))
            for one in found
            if one.certain and one.name not in self._handles
        ]

    def _grown(self) -> list[Unkept]:
        """Large collections, which are not looked into, that have grown or shrunk."""
        changed = {id(one): one for one, length in self._began_with if len(one) != length}
        why = f"has more than {_MOST_MEMBERS} members"
        return (
            [changed_in_workers(name, "collection", why) for name in self._state.names_of(changed.keys())]
            if changed
            else []
        )

    def _is_large(self, value: object) -> bool:
        """Whether it is not looked into, and not the worker's to change."""
        if isinstance(value, _COLLECTIONS):
            if len(value) > _MOST_MEMBERS:
                self._large.setdefault(id(value), (value, len(value)))
                return True
            return False
        if isinstance(value, torch.Tensor):
            return value.element_size() * value.numel() > _LARGEST_ARRAY
        nbytes = getattr(value, "nbytes", 0) if type(value).__module__ == "numpy" else 0
        return nbytes > _LARGEST_ARRAY or isinstance(value, _NEVER)


def _comparable(state: Any) -> object:
    """A generator's state, as values that `==` compares."""
    if isinstance(state, dict):
        return [(key, _comparable(value)) for key, value in state.items()]
    if isinstance(state, tuple | list):
        return [_comparable(one) for one in state]
    return state.tolist() if hasattr(state, "tolist") else state


class _Blind:
    """In place of `WorkerParts` where they cannot be looked at."""

    def __init__(self, unkept: Unkept) -> None:
        self.unkept = [unkept]

    def restore(self, packed: bytes) -> None:
        """Nothing is put back."""

    def look(self) -> bytes:
        """Nothing is seen."""
        return b""


Parts = WorkerParts | _Blind


def parts_of(fetcher: Any) -> Parts:
    """What the worker makes batches with, with what torch calls a fetcher."""
    parts = [("dataset", fetcher.dataset), ("collate_fn", fetcher.collate_fn)]
    try:
        return WorkerParts(parts)
    except Exception as error:  # the worker works without us
        return _Blind(_of_all(parts, f"cannot be looked at: {error}"))


def _of_all(parts: Sequence[tuple[str, object]], why: str) -> Unkept:
    name, part = parts[0]
    return changed_in_workers(name, type_text(type(part)), why)


def unpacked(packed: bytes) -> Any:
    """What a worker of this process has noted, as values that a checkpoint can hold; None: nothing."""
    return pickle.loads(packed) if packed else None


def packed_changes(changes: Any) -> bytes:
    """What `unpacked` gave."""
    return b"" if changes is None else pickle.dumps(changes)


class _Variables:
    """Generators, numbers and small collections of them among the variables of a module of the script's."""

    loops_counted = False

    def __init__(self, of: Namespace) -> None:
        self._of = of
        self._known: set[str] = set()

    @property
    def name(self) -> str:
        return self._of.name

    def items(self) -> list[tuple[str, object]]:
        """Those that were once such a value, whatever they are now, too."""
        found = [(name, value) for name, value in self._of.items() if name in self._known or _is_small(value)]
        self._known.update(name for name, _ in found)
        return found

    def set(self, name: str, value: object) -> None:
        self._of.set(name, value)

    def delete(self, name: str) -> None:
        self._of.delete(name)


def _modules(parts: Sequence[tuple[str, object]]) -> list[Namespace]:
    """The globals of the script's modules, and of those that define what batches are made with (in a notebook, say).

    A worker that is not forked has run the script once more, as `__mp_main__`. What is found there by that name is a copy:
    functions read and set the variables of another dictionary (`runpy.run_path` returns a copy of a module that it drops).
    """
    read: dict[str, Namespace] = {}
    holders = [part if isinstance(part, FunctionType) else type(part) for _, part in parts]
    main = vars(sys.modules.get("__main__", sys))
    for holder in [*holders, *(main.values() if main["__name__"] == "__mp_main__" else ())]:
        for function in _functions_of(holder):
            values = function.__globals__
            name = values.get("__name__")
            if isinstance(name, str):
                name = "main" if name in ("__main__", "__mp_main__") else name
                read.setdefault(name, DictNamespace(values, name))
    return [*read.values(), *(one for one in script_namespaces(None) if one.name not in read)]


def _functions_of(holder: object) -> Iterator[FunctionType]:
    """A function of the script's; the methods of a class of its, and of those that it derives from."""
    if isinstance(holder, FunctionType):
        candidates: list[object] = [holder]
    elif isinstance(holder, type):
        candidates = [value for one in type.mro(holder) for value in vars(one).values()]
    else:
        return
    for one in candidates:
        if isinstance(one, FunctionType) and is_script_file(one.__code__.co_filename):
            yield one


def _is_small(value: Any) -> bool:
    if not isinstance(value, _COLLECTIONS):
        return type(value) in _PLAIN or _is_generator(value)
    members = value.values() if isinstance(value, dict) else value
    return len(value) <= _MOST_MEMBERS and all(type(one) in _PLAIN or _is_generator(one) for one in members)


def _is_generator(value: object) -> bool:
    kind = type(value)
    return issubclass(kind, random.Random | torch.Generator) or (
        kind.__module__.startswith("numpy.random") and kind.__name__ in ("Generator", "RandomState")
    )


def _is_the_scripts(kind: str) -> bool:
    """Whether a class of this name is defined in the script's own code."""
    module = sys.modules.get(kind.rpartition(".")[0])
    path = None if module is None else vars(module).get("__file__")
    return isinstance(path, str) and is_script_file(path)
