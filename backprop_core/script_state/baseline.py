"""What a walk found, remembered in a few bytes for each object."""

from __future__ import annotations

import marshal
import weakref
from collections.abc import Callable
from dataclasses import field
from typing import Any, Final

import xxhash

from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.arrays import Reader, facts, looks
from backprop_core.script_state.graph import Graph, Node
from backprop_core.script_state.held_values import CannotSayError, cache_of, held
from backprop_core.script_state.held_values import digest as digest_of_held
from backprop_core.script_state.iterators import place_of
from backprop_core.script_state.kinds import Kind, Kinds, Plan
from backprop_core.script_state.paths import CLASS, Path
from backprop_core.script_state.state_dicts import digest_of_plain, storable
from backprop_core.script_state.trackables import track

FORMAT: Final = 1
BY_SLOT: Final = (Kind.INSTANCE, Kind.NAMESPACE, Kind.CLOSURE, Kind.CLASS, Kind.BOUND)


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
            begin, root = node.path[0]
            if (root in roots or begin == CLASS) and node.name not in self.known:
                self._remember(node, kinds, reader)

    def _remember(self, node: Node, kinds: Kinds, reader: Reader) -> None:
        known = Known(node.name, node.path, node.kind, text_of(node), id(node.value), _alive(node.value))
        Look(kinds, reader).at(node).into(known)
        self.known[node.name] = self._by_ident[known.ident] = known

    def name_of(self, value: object, plan: Plan) -> tuple[str, Path] | None:
        """The name of the same object then.

        Where that one is gone, whatever lies at its address now is another object, and has the name of its own place. What
        cannot be referred to weakly, such as a list, is taken for the same.
        """
        known = self._by_ident.get(id(value))
        if known is None or known.text.partition(" ")[0] != plan.text:
            return None
        if known.alive is not None and known.alive() is not value:
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
        elif node.kind in BY_SLOT:
            self.slots = {name: digest(written) for name, written in node.data["slots"].items()}
        elif node.kind is Kind.ARRAY:
            translator = self._kinds.translator(node.value)
            assert translator is not None
            try:
                self.mark = self._reader.mark(node.value, translator)
            except TypeError as error:
                node.trouble, self.mark = str(error), self._reader.mark_of_unstorable(node.value)
            node.data = {"array": node.value, **facts(node.value)}
        elif node.kind is Kind.HELD:
            self._held(node)
        elif node.kind is Kind.RANDOM:
            node.data = {
                **(node.data or {}),
                "state": track(node.name, node.value, self._kinds.frameworks).capture(),
            }
            self.mark = digest_of_plain(node.data, self._kinds, self._reader)
        elif node.kind is Kind.ITERATOR:
            node.data = {"place": place_of(node.value)}
            self.mark = repr(node.data).encode()
        elif node.kind is Kind.STATE_DICT:
            node.data = {"state": storable(node.value.state_dict(), self._kinds)}
            self.mark = digest_of_plain(node.data, self._kinds, self._reader)
        elif node.data is not None:
            self.mark = digest(node.data)

    def _held(self, node: Node) -> None:
        try:
            content = held(node.value)
        except CannotSayError as error:
            # the results of such a function are a dictionary, which is a node of its own
            node.trouble = str(error)
            self.mark = b"" if cache_of(node.value) is not None else digest_of_held(error.mark)
            return
        node.data, self.mark = {"held": content}, digest_of_held(content)
