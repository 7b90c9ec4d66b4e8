"""A walk over everything that can be reached from some roots: each object once, breadth first, under the shortest name.

What is found is a flat graph: objects that can change are nodes with a name, and refer to each other by it, so aliases and
cycles stay what they are.
"""

from __future__ import annotations

import enum
import gc
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from backprop_core.script_state.arrays import can_be_hollow
from backprop_core.script_state.attributes import class_reference, classes_of, type_text
from backprop_core.script_state.contents import Contents
from backprop_core.script_state.graph import Graph, Holder, Node
from backprop_core.script_state.iterators import is_of_a_loader
from backprop_core.script_state.kinds import MARSHALLED, Kind, Kinds, Plan, is_storable
from backprop_core.script_state.methods import method_name
from backprop_core.script_state.namespace import MODULE, DictNamespace, Namespace
from backprop_core.script_state.paths import CLASS, INDEX, OF_TYPE, PART, ROOT, Path, Step, name_behind
from backprop_core.script_state.script_classes import keeps_values
from backprop_core.script_state.values import written

MOST_OBJECTS: Final = 50_000
"""So many objects a first walk looks at; what lies deeper is not watched, and that is said."""


class Earlier(Protocol):
    """What an earlier walk knew."""

    def name_of(self, value: object, plan: Plan, path: Path) -> tuple[str, Path] | None:
        """The name and path under which the same object was found, which lies at `path` now."""
        ...

    def is_as_it_was(self, name: str, value: object) -> bool:
        """Whether a large collection that was not looked into holds the same objects."""
        ...


class Walk:
    """One walk.

    Args:
        elsewhere: whether the checkpoint has an object already.
        earlier: an earlier walk, whose names are kept.
        most: how many objects are looked at.
        reserved: names of objects of the earlier walk that are still to come.

    Attributes:
        taken: names of earlier objects that others had taken when these came.
    """

    def __init__(
        self,
        kinds: Kinds,
        elsewhere: Callable[[object], bool],
        earlier: Earlier | None = None,
        most: int = MOST_OBJECTS,
        reserved: frozenset[str] = frozenset(),
    ) -> None:
        self.kinds = kinds
        self.graph = Graph()
        self._elsewhere = elsewhere
        self._earlier = earlier
        self._most = most
        self._reserved = reserved
        self.taken: set[str] = set()
        self._named: dict[int, str] = {}
        self._kept: list[object] = []
        self._root_names: set[str] = set()
        self._met: set[type] = set()
        self._queue: deque[Node] = deque()

    def over(self, roots: Iterable[Namespace | tuple[str, object]]) -> Graph:
        """Walk from these roots."""
        roots = list(roots)
        self._root_names = {root[0] if isinstance(root, tuple) else root.name for root in roots}
        last = [root for root in roots if getattr(root, "comes_last", False)]
        contents = Contents(self)
        self._from([root for root in roots if all(root is not one for one in last)], contents)
        self._from(last, contents)
        contents.close()
        self._kept.clear()  # nothing is held by a walk that is over, not even until the garbage collector runs
        return self.graph

    def _from(self, roots: Iterable[Namespace | tuple[str, object]], contents: Contents) -> None:
        for root in roots:
            if isinstance(root, tuple):
                name, value = root
                plan = self.kinds.plan(value)
                self._add(value, plan, name, ((ROOT, name),))
            else:
                plan = _MODULE if isinstance(root, DictNamespace) else _NAMESPACE
                self._enqueue(Node(root.name, ((ROOT, root.name),), root, plan))
        while self._queue:
            node = self._queue.popleft()
            if len(self.graph.nodes) > self._most and node.kind is not Kind.ARRAY:
                self.graph.cut_short.append(node.name)
                node.cold = True
                continue
            contents.fill(node)

    # -- values in their places --------------------------------------------------------------------------------

    def place(self, node: Holder, value: object, step: Step) -> Any:
        """How `value` is written in its place in `node`: itself if it is plain, else a reference."""
        if type(value) in MARSHALLED:
            return value
        plan = self.kinds.plan(value)
        if plan.kind is Kind.TUPLE:
            return self._tuple(node, value, plan, step)
        if plan.kind in _WRITTEN:
            form = self._form(value, plan, (*node.path, step))
            if form is not _NONE:
                return form
            plan = Plan(Kind.OPAQUE, text=plan.text)
        if plan.kind is Kind.BOUND and (name := method_name(value)) is not None:
            owner = value.__self__  # type: ignore[attr-defined]
            return {"method": name, "of": self.place(_Inner(node, step), owner, (PART, "__self__"))}
        return {"ref": self.refer(node, value, plan, step)}

    def _form(self, value: Any, plan: Plan, path: Path) -> Any:
        """Of a value that never changes and is no tuple: how it is written; `_NONE` if it cannot be."""
        kind = type(value)
        if plan.kind is Kind.ENUM:
            if issubclass(kind, enum.Flag):  # several together have no name of their own
                return {"enum": class_reference(kind), "flags": object.__getattribute__(value, "_value_")}
            return {"enum": class_reference(kind), "member": _member(value)}
        if plan.kind is Kind.HANDLE:
            if issubclass(kind, type):
                self._meet(value, path)
            return _handle(value, plan)
        if plan.kind is Kind.FROZENSET:
            return value if _is_plain(value) else _NONE
        return value if is_storable(value) else written(value) or _NONE

    def refer(self, node: Holder, value: object, plan: Plan, step: Step) -> str:
        """The name of `value`, which is met here."""
        name = self._named.get(id(value))
        if name is None:
            if plan.kind is Kind.ITERATOR and self._finds_its_place(node, value):
                plan = Plan(Kind.ELSEWHERE, text=plan.text)
            name = self._add(value, plan, name_behind(node.name, step), (*node.path, step))
        node.refs.append(name)
        return name

    def places(self, node: Node, values: Sequence[object]) -> list[Any]:
        """The members of a sequence in their places, where not all of them are plain."""
        return [self.place(node, value, (INDEX, index)) for index, value in enumerate(values)]

    def _tuple(self, node: Holder, value: Any, plan: Plan, step: Step) -> Any:
        members = list(tuple.__iter__(value))
        inner = _Inner(node, step)
        placed: dict[str, Any] = {
            "tuple": [
                one if type(one) in MARSHALLED else self.place(inner, one, (INDEX, index))
                for index, one in enumerate(members)
            ]
        }
        if plan.text != "builtins.tuple":
            placed["type"] = class_reference(type(value))
        return placed

    def is_as_it_was(self, node: Node) -> bool:
        """Whether a large collection need not be looked into."""
        return self._earlier is not None and self._earlier.is_as_it_was(node.name, node.value)

    @property
    def is_first(self) -> bool:
        return self._earlier is None

    def _add(self, value: object, plan: Plan, name: str, path: Path) -> str:
        known = None if self._earlier is None else self._earlier.name_of(value, plan, path)
        if known is not None and known[1][0][0] == ROOT and known[1][0][1] not in self._root_names:
            known = None  # a function that has returned: nothing leads there any more
        if known is not None:
            name, path = known
            if name in self.graph.nodes:
                self.taken.add(name)
        name = self._unused(name, new=known is None)
        if plan.kind not in (Kind.OPAQUE, Kind.VALUE, Kind.ITERATOR) and self._elsewhere(value):
            is_part = plan.kind is Kind.ARRAY and can_be_hollow(value)
            plan = Plan(Kind.PART if is_part else Kind.ELSEWHERE, text=plan.text)
        if known is None and not self.is_first:
            plan = self.kinds.plan_to_make(value, plan)
        if type(value) not in self._met:
            self._met.add(type(value))
            self._meet(type(value), path)
        self._named[id(value)] = name
        self._kept.append(value)
        self._enqueue(Node(name, path, value, plan))
        return name

    def _finds_its_place(self, node: Holder, value: object) -> bool:
        """Whether an iterator asks a loader whose passes are counted: from a variable, a generator or a loader."""
        if not is_of_a_loader(type(value)):
            return any(map(self._elsewhere, gc.get_referents(value)))
        if isinstance(node, Node) and node.kind is Kind.NAMESPACE:
            return bool(node.value.loops_counted)
        return isinstance(node, Node) and is_loader(type(node.value))

    def _meet(self, kind: type, path: Path) -> None:
        """Look into a class of the script's, which is at `path` or that of what is there, and those that it derives from."""
        for number, one in enumerate(classes_of(kind)):
            if id(one) in self._named or not keeps_values(one):
                continue
            module, name = class_reference(one)
            called = f"{'main' if module in ('__main__', '__mp_main__') else module}.{name}"
            plan = Plan(Kind.CLASS, text=f"{module}.{name}")
            way: Path = ((CLASS, f"{module}:{name}"),)
            if _LOCAL in name:  # made by a function: each call makes another, which no name leads to
                called, way = self._local(one, plan, called, (*path, (OF_TYPE, number)))
            self._named[id(one)] = called
            if called not in self.graph.nodes:
                self._enqueue(Node(called, way, one, plan))

    def _local(self, kind: type, plan: Plan, name: str, path: Path) -> tuple[str, Path]:
        known = None if self._earlier is None else self._earlier.name_of(kind, plan, path)
        return (self._unused(name, new=True), path) if known is None else known

    def _unused(self, name: str, *, new: bool) -> str:
        """`name`, with a number where another has it, or where an earlier object that is still to come has it."""
        count, plain = 2, name
        while name in self.graph.nodes or (new and name in self._reserved):
            name, count = f"{plain}~{count}", count + 1
        return name

    def _enqueue(self, node: Node) -> None:
        self.graph.nodes[node.name] = node
        if node.kind not in _NOT_LOOKED_INTO:
            self._queue.append(node)


class _Inner:
    """The place of a tuple, or of a method, in a node: what is in it is reached through it."""

    def __init__(self, node: Holder, step: Step) -> None:
        self.name = name_behind(node.name, step)
        self.path = (*node.path, step)
        self.refs = node.refs


_NAMESPACE, _MODULE = Plan(Kind.NAMESPACE), Plan(Kind.NAMESPACE, text=MODULE)
_WRITTEN: Final = (Kind.VALUE, Kind.FROZENSET, Kind.ENUM, Kind.HANDLE)
"""Kinds of which there is no node: they never change themselves, or belong to the process."""
_LOCAL: Final = "<locals>"
_NOT_LOOKED_INTO: Final = (Kind.OPAQUE, Kind.ELSEWHERE, Kind.PART)
_NONE: Final = object()


def _is_plain(members: Any) -> bool:
    return set(map(type, members)) <= MARSHALLED


def is_loader(kind: type) -> bool:
    """Whether it is torch's DataLoader, or derives from it; torch need not be there."""
    return any(type_text(one) == "torch.utils.data.dataloader.DataLoader" for one in classes_of(kind))


def _member(value: Any) -> str:
    return str(object.__getattribute__(value, "_name_"))


def _handle(value: object, plan: Plan) -> Any:
    """A function or a class that any process finds by its name; of other handles only that there is one."""
    kind = type(value)
    if issubclass(kind, type):
        return {"global": class_reference(value)}  # type: ignore[arg-type]
    if plan.text in ("builtins.function", "builtins.builtin_function_or_method"):
        module, name = value.__module__, value.__qualname__  # type: ignore[attr-defined]
        if type(module) is str and type(name) is str and "<" not in name:
            return {"global": [module, name]}
    return {"handle": plan.text}
