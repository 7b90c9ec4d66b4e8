"""What a walk found, remembered in a few bytes for each object."""

from __future__ import annotations

import marshal
import sys
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from itertools import islice
from typing import Any, Final

import xxhash

from backprop_core.checkpoints.memory import view_at
from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.arrays import Reader, looks
from backprop_core.script_state.graph import Graph, Node
from backprop_core.script_state.held_values import CannotSayError, cache_of, held
from backprop_core.script_state.held_values import digest as digest_of_held
from backprop_core.script_state.iterators import place_of
from backprop_core.script_state.kinds import MARSHALLED, Kind, Kinds, Plan
from backprop_core.script_state.paths import CLASS, Path
from backprop_core.script_state.state_dicts import digest_of_plain, storable
from backprop_core.script_state.trackables import track
from backprop_core.true_class import is_a

FORMAT: Final = 1
_MOST_MEMBERS: Final = 1000
_MOST_PLAIN: Final = 500
BY_SLOT: Final = (Kind.INSTANCE, Kind.NAMESPACE, Kind.CLOSURE, Kind.CLASS, Kind.BOUND)


@dataclass(slots=True, eq=False)
class Known:
    """One object of a baseline.

    Attributes:
        text: its type and, for an array, its looks: where they differ it is another object.
        mark: a digest of what it holds; None for what is compared slot by slot.
        slots: digests by name.
        ident, alive: which object it was.
        member: one of those that a list or dictionary held, which cannot be referred to weakly itself.
        kept: the list or dictionary, if it is small and plain: then no other one can lie at its address.
        of: for a large collection, a digest of which objects it held.
    """

    name: str
    path: Path
    kind: Kind
    text: str
    ident: int
    alive: Callable[[], object] | None
    member: Callable[[], object] | None = None
    kept: object = None
    mark: bytes | None = None
    slots: dict[str, bytes] | None = None
    of: int | None = None
    trouble: str = ""


@dataclass(slots=True, eq=False)
class Baseline:
    """What one walk found. It holds on to none of it but small lists and dictionaries of plain values.

    Attributes:
        is_held: somebody else keeps all of it alive, so that no other object can lie at the address of one.
    """

    known: dict[str, Known] = field(default_factory=dict)
    cut_short: list[str] = field(default_factory=list)
    is_held: bool = False
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
        alive = _alive(node.value)
        known = Known(node.name, node.path, node.kind, text_of(node), id(node.value), alive)
        if alive is None and (is_a(node.value, list) or is_a(node.value, dict)):
            known.kept = node.value if _is_plain(node.value, _MOST_PLAIN) >= 0 else None
            known.member = _member_of(node.value)
        Look(kinds, reader).at(node).into(known)
        self.known[node.name] = self._by_ident[known.ident] = known

    def name_of(self, value: object, plan: Plan, path: Path) -> tuple[str, Path] | None:
        """The name of the same object then.

        Where that one is gone, whatever lies at its address now is another object, and has the name of its own place. A list
        or dictionary of which nobody can tell is the same in the same place, and elsewhere if it still holds something that
        it held: an optimizer's group may lie where the buffers of a layer lay that has been exchanged.
        """
        known = self._by_ident.get(id(value))
        if known is None or known.text.partition(" ")[0] != plan.text:
            return None
        if known.alive is not None and known.alive() is not value:
            return None
        if known.alive is None and (is_a(value, list) or is_a(value, dict)):
            is_certain = self.is_held or known.kept is value or known.path == path
            if not is_certain and not _still_holds(value, known):
                return None
        return known.name, known.path

    def had(self, value: object) -> bool:
        """Whether it was there then, for certain."""
        known = self._by_ident.get(id(value))
        return known is not None and known.alive is not None and known.alive() is value

    def is_same(self, name: str, value: object) -> bool:
        """Whether `value` is the very object that had this name then."""
        known = self.known.get(name)
        if known is None or known.ident != id(value):
            return False
        return known.alive is None or known.alive() is value

    def is_as_it_was(self, name: str, value: object) -> bool:
        """Whether a large collection holds the same objects."""
        known = self.known.get(name)
        return known is not None and known.of is not None and known.of == members_of(value)


def text_of(node: Node) -> str:
    """What has to be the same for an object to be changed in place."""
    if node.kind in (Kind.ARRAY, Kind.PART):
        return f"{node.plan.text} {looks(node.value)}"
    if node.kind is Kind.DEQUE:
        return f"{node.plan.text} {node.value.maxlen}"
    return node.plan.text


def members_of(value: Any) -> int:
    """Which objects a collection holds, as one number."""
    base: Any = dict if is_a(value, dict) else list if is_a(value, list) else deque
    members = dict.values(value) if base is dict else base.__iter__(value)
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return xxhash.xxh3_64_intdigest(array("Q", map(id, members)))
    held = numpy.fromiter(members, object, base.__len__(value))  # a seventh of the time
    return xxhash.xxh3_64_intdigest(view_at(held.__array_interface__["data"][0], held.nbytes, held))


def can_be_told_apart(value: object) -> bool:
    """Whether a baseline knows for certain that it is the same object, and not another at its address."""
    return _alive(value) is not None


def _alive(value: object) -> Callable[[], object] | None:
    kind = type(value)
    # torch refuses to exchange parameters that somebody refers to weakly
    if kind is dict or kind is list or kind.__name__ == "Parameter":
        return None
    try:
        return weakref.ref(value)
    except TypeError:
        return None


def _member_of(value: object) -> Callable[[], object] | None:
    """One of the first members of a list or dictionary, weakly."""
    for member in _first(value, 3):
        alive = None if is_a(member, type) else _alive(member)
        if alive is not None:
            return alive
    return None


def _is_plain(value: object, most: int) -> int:
    """How many of `most` objects are left behind the plain ones in `value`; below 0 where there are more, or others."""
    most -= 1
    if type(value) in MARSHALLED:
        return most
    if type(value) in (list, tuple):
        members: Iterable[object] = value  # type: ignore[assignment]
    elif type(value) is dict:
        members = value.values()
    else:
        return -1
    for member in members:
        if most < 0:
            break
        most = _is_plain(member, most)
    return most


def _still_holds(value: object, known: Known) -> bool:
    member = None if known.member is None else known.member()
    return member is not None and any(one is member for one in _first(value, _MOST_MEMBERS))


def _first(value: Any, count: int) -> list[object]:
    if is_a(value, dict):
        return list(islice(dict.values(value), count))
    return list(islice(list.__iter__(value), count)) if is_a(value, list) else []


def digest(written: Any) -> bytes:
    """What a place holds: the thing itself where it is short."""
    try:
        text = marshal.dumps(written, 2)
    except ValueError:  # a date, a path, a scalar of numpy's
        text = repr(written).encode("utf-8", "surrogatepass")
    return text if len(text) <= 16 else xxhash.xxh3_128_digest(text)


def _digest_of_text(data: Mapping[str, Any]) -> bytes:
    """The same of a long list of strings, in a third of the time: Python keeps the hash of each, of 64 bits."""
    rest = {name: written for name, written in data.items() if name != "items"}
    return digest([hash(tuple(data["items"])), rest])


class Look:
    """What a node holds now: digests to compare, and the data that would be stored, but for an array."""

    __slots__ = ("_kinds", "_reader", "mark", "of", "slots")

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
        kind = node.kind
        if node.cold:
            self.of = members_of(node.value) if kind in (Kind.LIST, Kind.DICT, Kind.DEQUE) else None
        elif kind is Kind.DICT:
            self.mark = None if node.data is None else digest(node.data)
        elif kind is Kind.ARRAY:
            translator = self._kinds.translator(node.value)
            assert translator is not None
            try:
                self.mark = self._reader.mark(node.value, translator)
            except TypeError as error:
                node.trouble, self.mark = str(error), self._reader.mark_of_unstorable(node.value)
        elif kind in BY_SLOT:
            self.slots = {name: digest(written) for name, written in node.data["slots"].items()}
        elif kind is Kind.HELD:
            self._held(node)
        elif kind is Kind.RANDOM:
            node.data = {
                **(node.data or {}),
                "state": track(node.name, node.value, self._kinds.frameworks).capture(),
            }
            self.mark = digest_of_plain(node.data, self._kinds, self._reader)
        elif kind is Kind.ITERATOR:
            node.data = {"place": place_of(node.value)}
            self.mark = repr(node.data).encode()
        elif kind is Kind.STATE_DICT:
            node.data = {"state": storable(node.value.state_dict(), self._kinds)}
            self.mark = digest_of_plain(node.data, self._kinds, self._reader)
        elif node.holds_text and len(node.data["items"]) > _MOST_PLAIN:
            self.mark = _digest_of_text(node.data)
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
