"""What a walk found, remembered in a few bytes for each object, and what differs from it later."""

from __future__ import annotations

import marshal
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import xxhash

from backprop_core.script_state.arrays import Reader, facts, is_mutable, looks, memory_of, view_of
from backprop_core.script_state.graph import Graph, Node
from backprop_core.script_state.kinds import Kind, Kinds, Plan
from backprop_core.script_state.making import arguments_of
from backprop_core.script_state.paths import Path
from backprop_core.script_state.state_dicts import digest_of_plain, storable
from backprop_core.script_state.trackables import track
from backprop_core.script_state.unkept import Unkept, cannot_store, cut_short, new_instance, replaced

FORMAT: Final = 1
_BY_SLOT: Final = (Kind.INSTANCE, Kind.NAMESPACE, Kind.CLOSURE)
_NEVER_MADE: Final = (Kind.INSTANCE, Kind.STATE_DICT, Kind.CLOSURE, Kind.NAMESPACE)
"""Kinds of which nothing is made anew: that would be to run the script's code."""


@dataclass(slots=True, eq=False)
class Known:
    """One object of a baseline.

    Attributes:
        text: its type and, for an array, its looks: where they differ it is another object.
        mark: a digest of what it holds; None for what is compared slot by slot.
        slots: digests by name.
        ident, alive: which object it was.
        of: for a large collection, a digest of which objects it held.
    """

    name: str
    path: Path
    kind: Kind
    text: str
    ident: int
    alive: Callable[[], object] | None
    mark: bytes | None = None
    slots: dict[str, bytes] | None = None
    of: int | None = None
    trouble: str = ""


@dataclass(slots=True, eq=False)
class Baseline:
    """What one walk found. It holds on to none of it."""

    known: dict[str, Known] = field(default_factory=dict)
    cut_short: list[str] = field(default_factory=list)
    _by_ident: dict[int, Known] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, kinds: Kinds, reader: Reader) -> Baseline:
        """Remember `graph`."""
        baseline = cls(cut_short=graph.cut_short)
        for node in graph.nodes.values():
            baseline._remember(node, kinds, reader)
        return baseline

    def extend(self, graph: Graph, roots: set[str], kinds: Kinds, reader: Reader) -> None:
        """Remember what is reached first from these roots of a later walk."""
        for node in graph.nodes.values():
            if node.path[0][1] in roots and node.name not in self.known:
                self._remember(node, kinds, reader)

    def _remember(self, node: Node, kinds: Kinds, reader: Reader) -> None:
        known = Known(node.name, node.path, node.kind, text_of(node), id(node.value), _alive(node.value))
        Look(kinds, reader).at(node).into(known)
        self.known[node.name] = self._by_ident[known.ident] = known

    def name_of(self, value: object, plan: Plan) -> tuple[str, Path] | None:
        """The name of the same object then.

        Where that one is gone and another lies at its address, the new process has the old one to put in its place.
        """
        known = self._by_ident.get(id(value))
        if known is None or known.text.partition(" ")[0] != plan.text:
            return None
        if plan.kind in (Kind.OPAQUE, Kind.ARRAY) and known.alive is not None and known.alive() is not value:
            return None
        return known.name, known.path

    def is_as_it_was(self, name: str, value: object) -> bool:
        """Whether a large collection holds the same objects."""
        known = self.known.get(name)
        return known is not None and known.of is not None and known.of == members_of(value)


def text_of(node: Node) -> str:
    """What has to be the same for an object to be changed in place."""
    if node.kind is Kind.ARRAY:
        return f"{node.plan.text} {looks(node.value)}"
    if node.kind is Kind.DEQUE:
        return f"{node.plan.text} {node.value.maxlen}"
    return node.plan.text


def members_of(value: Any) -> int:
    """Which objects a collection holds, as one number."""
    members = dict.values(value) if isinstance(value, dict) else value
    return hash((len(value), tuple(map(id, members))))


def _alive(value: object) -> Callable[[], object] | None:
    if (
        type(value).__name__ == "Parameter"
    ):  # torch refuses to exchange parameters that somebody refers to weakly
        return None
    try:
        return weakref.ref(value)
    except TypeError:
        return None


def digest(written: Any) -> bytes:
    """What a place holds: the thing itself where it is short."""
    try:
        text = marshal.dumps(written, 2)
    except ValueError:  # a date, a path, a scalar of numpy's
        text = repr(written).encode("utf-8", "surrogatepass")
    return text if len(text) <= 16 else xxhash.xxh3_128_digest(text)


class Look:
    """What a node holds now: digests to compare, and the data that would be stored."""

    def __init__(self, kinds: Kinds, reader: Reader) -> None:
        self._kinds = kinds
        self._reader = reader
        self.mark: bytes | None = None
        self.slots: dict[str, bytes] | None = None
        self.of: int | None = None

    def at(self, node: Node) -> Look:
        """Look at `node`. What is wrong with it is noted in its `trouble`."""
        try:
            self._look(node)
        except (
            Exception
        ) as error:  # a framework's own refusal, or an object of a package that fails to say what it holds
            node.trouble = node.trouble or f"{type(error).__name__}: {error}"
            self.mark = b"?"
        return self

    def into(self, known: Known) -> None:
        """Remember what was seen."""
        known.mark, known.slots, known.of = self.mark, self.slots, self.of

    def _look(self, node: Node) -> None:
        if node.cold:
            self.of = members_of(node.value) if node.kind in (Kind.LIST, Kind.DICT, Kind.DEQUE) else None
        elif node.kind in _BY_SLOT:
            self.slots = {name: digest(written) for name, written in node.data["slots"].items()}
        elif node.kind is Kind.ARRAY:
            translator = self._kinds.translator(node.value)
            assert translator is not None
            try:
                self.mark = self._reader.mark(node.value, translator)
            except TypeError as error:
                node.trouble, self.mark = str(error), f"id {id(node.value)}".encode()
            node.data = {"array": node.value, **facts(node.value)}
        elif node.kind is Kind.RANDOM:
            node.data = {"state": track(node.name, node.value, self._kinds.frameworks).capture()}
            self.mark = digest_of_plain(node.data, self._kinds, self._reader)
        elif node.kind is Kind.STATE_DICT:
            node.data = {"state": storable(node.value.state_dict(), self._kinds)}
            self.mark = digest_of_plain(node.data, self._kinds, self._reader)
        elif node.data is not None:
            self.mark = digest(node.data)


_VARIABLE: Final = 2
"""Steps to the value of a variable: its namespace, its name."""


@dataclass(slots=True)
class StateDifference:
    """What differs from a baseline: nodes as they are stored, and what cannot be."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    unkept: list[Unkept] = field(default_factory=list)


class Comparison:
    """Compares a later walk with a baseline.

    Args:
        sticky: names and slots that are stored whether they differ or not, because an earlier process stored them.
        made_again: objects of the script's that are new under names of their own are made by a new process, too.
        made_lately: whether the value of a variable is one that a new process does not make before it is restored.
    """

    def __init__(
        self,
        baseline: Baseline,
        kinds: Kinds,
        reader: Reader,
        sticky: Mapping[str, frozenset[str]],
        *,
        made_again: bool = False,
        made_lately: Callable[[object], bool] = lambda value: False,
    ) -> None:
        self._baseline = baseline
        self._made_again = made_again
        self._made_lately = made_lately
        self._instances: set[Path] = set()
        self._kinds_known = (
            {known.path: known.kind for known in baseline.known.values()} if made_again else {}
        )
        self._kinds = kinds
        self._reader = reader
        self._sticky = sticky
        self._found = StateDifference()

    def of(self, graph: Graph) -> StateDifference:
        """What differs in `graph`."""
        self._instances = {
            node.path
            for node in graph.nodes.values()
            if node.kind is Kind.INSTANCE and node.name not in self._baseline.known
        }
        looks_now = {name: Look(self._kinds, self._reader).at(node) for name, node in graph.nodes.items()}
        made = {name for name, node in graph.nodes.items() if self._is_another(node)}
        _note_sharing(graph, made)
        for name, node in graph.nodes.items():
            self._compare(node, looks_now[name], made)
        ours = {name for name in made if graph.nodes[name].kind is Kind.CLOSURE}
        self._found.nodes = [without(node, ours) for node in self._found.nodes] if ours else self._found.nodes
        for name in graph.cut_short:
            if name not in self._baseline.cut_short:
                self._found.unkept.append(cut_short(name))
        return self._found

    def _is_another(self, node: Node) -> bool:
        """Whether it is another object than the first boundary's, which cannot be changed into it."""
        known = self._baseline.known.get(node.name)
        if known is not None and node.kind is Kind.ELSEWHERE:
            return False
        if known is None or known.kind is not node.kind or known.text != text_of(node):
            return True
        if node.kind is Kind.OPAQUE:
            return known.ident != id(node.value)
        if node.kind is not Kind.ARRAY:
            return False
        same = known.alive is not None and known.alive() is node.value
        is_parameter = node.plan.text.endswith(".Parameter")
        return not (same or is_parameter) or not is_mutable(node.value)

    def _compare(self, node: Node, now: Look, made: set[str]) -> None:
        known = self._baseline.known.get(node.name)
        another = node.name in made
        if node.kind is Kind.ELSEWHERE or (node.cold and not another):
            return
        if node.kind is Kind.OPAQUE:
            arguments = arguments_of(node.value) if another or node.name in self._sticky else None
            if arguments is not None:
                self._store(node, {"arguments": arguments}, True)
            elif another and not (known is None and self._is_made_again(node)):
                self._found.unkept.append(replaced(node.name, node.plan.text))
            return
        points_anew = not made.isdisjoint(node.refs)
        if now.slots is not None:
            self._slots(node, now.slots, known if not another else None, made)
            return
        same = known is not None and known.mark == now.mark and known.text == text_of(node)
        wanted = points_anew or node.name in self._sticky or node.kind is Kind.RANDOM
        # Another array with the same elements is made by the new process itself.
        if same and not wanted and (not another or node.kind is Kind.ARRAY):
            return
        self._store(node, node.data, another)

    def _slots(self, node: Node, now: dict[str, bytes], known: Known | None, made: set[str]) -> None:
        before = {} if known is None or known.slots is None else known.slots
        sticky = self._sticky.get(node.name, frozenset())
        slots = node.data["slots"]
        changed = {
            name: slots[name]
            for name, mark in now.items()
            if before.get(name) != mark or name in sticky or not made.isdisjoint(references_in(slots[name]))
        }
        gone = [name for name in {*before, *sticky} if name not in now]
        if known is None and node.kind is Kind.CLOSURE:
            return  # a function that is made anew, like any other: the new process makes its own
        if known is None and node.kind is not Kind.NAMESPACE and not self._is_made_again(node):
            self._found.unkept.append(new_instance(node.name, node.plan.text))
        elif changed or gone:
            whole = {"whole": True} if known is None else {}  # then an object can be made of it
            self._store(node, {"slots": changed, "gone": gone, **whole}, False)

    def _is_made_again(self, node: Node) -> bool:
        """Whether the script's code makes the object in a new process, too: not what a collection has grown by."""
        if not self._made_again or (len(node.path) == _VARIABLE and self._made_lately(node.value)):
            return False
        for length in range(len(node.path) - 1, 0, -1):
            kind = self._kinds_known.get(node.path[:length])
            if kind is not None:
                return kind in _BY_SLOT
        return True

    def _is_part_of_made(self, node: Node) -> bool:
        """Whether it lies in an object that the new process makes, too, which has its own in that place."""
        if not self._made_again or node.name in self._baseline.known:
            return False
        return any(node.path[:length] in self._instances for length in range(1, len(node.path)))

    def _store(self, node: Node, data: Any, another: bool) -> None:
        if node.trouble:
            self._found.unkept.append(cannot_store(node.name, node.plan.text, node.trouble))
            return
        if (
            another
            and node.kind in _NEVER_MADE
            and node.name not in self._baseline.known
            and not self._is_made_again(node)
        ):
            self._found.unkept.append(new_instance(node.name, node.plan.text))
            return
        self._found.nodes.append(
            {
                "name": node.name,
                "path": [list(step) for step in node.path],
                "kind": node.kind.value,
                "type": node.plan.text,
                "new": another and node.kind not in _NEVER_MADE and not self._is_part_of_made(node),
                "data": data,
            }
        )


def _note_sharing(graph: Graph, made: set[str]) -> None:
    """Note of new tensors whose memory they share: `best = model.state_dict()` changes with the model."""
    views = [graph.nodes[name] for name in made if graph.nodes[name].kind is Kind.ARRAY]
    views = [node for node in views if not node.trouble and memory_of(node.value) is not None]
    if not views:
        return
    owners: dict[int | None, Node] = {}
    for name, node in graph.nodes.items():
        if name not in made and node.kind in (Kind.ARRAY, Kind.ELSEWHERE):
            owners.setdefault(memory_of(node.value), node)
    for node in views:
        owner, view = owners.get(memory_of(node.value)), view_of(node.value)
        if owner is not None and view is not None and owner.value.dtype == node.value.dtype:
            node.data["shares"] = {"ref": owner.name, **view}


def without(written: Any, names: set[str]) -> Any:
    """What is stored, with references to these nodes as handles: the new process has its own."""
    if type(written) is dict:
        if type(written.get("ref")) is str and written["ref"] in names:
            return {"handle": "builtins.function"}
        return {key: without(value, names) for key, value in written.items()}
    if type(written) is list and any(type(one) in (dict, list) for one in written):
        return [without(one, names) for one in written]
    return written


def references_in(written: Any) -> Iterable[str]:
    """Names of nodes in a place."""
    if type(written) is dict:
        if "ref" in written:
            yield written["ref"]
        for member in written.get("tuple", ()):
            yield from references_in(member)
