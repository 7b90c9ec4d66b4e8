"""States taken apart into a JSON tree and dense arrays, and put together again. No pickle in either
direction.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Final

from backprop_core.errors import StateMismatchError
from backprop_core.quick_dataclass import dataclass

from .arrays import DTYPE_BITS, JSON, ArrayNode, Dense, RawFile, Translator
from .plain import KIND, KeyPath, PlainEncoder
from .plain_back import PlainDecoder
from .shards import SHARDS, OtherParts, OwnShards, Shards
from .staging import StagingBuffers

if TYPE_CHECKING:
    from .unchanged import Unchanged

__all__ = ["CapturedState", "Snapshot", "StagingBuffers", "capture", "rebuild"]

_NODE: Final = "node"
_RAW: Final = "raw"
_SHARDS_OF: Final = ".shards"
"""Behind an object's name: in memory that is reused its shards have a place of their own."""
_SAME: Final = "same"
_LONGEST_NAME: Final = 400
_SAFETENSORS_FORMAT: Mapping[str, str] = {"torch": "pt", "numpy": "np"}


@dataclass(frozen=True, slots=True)
class CapturedState:
    """One tracked object.

    Attributes:
        tree: its state as JSON, with references to the arrays.
        arrays: by the name they get in the safetensors file.
        owners: the name of the translator each array came from.
        aliases: names of arrays that are the same memory as another: `{left out: kept}`.
        raw: the one array is the whole content of a file of its own; there is no tree.
        in_place: arrays that are not copied, because they look as in the last checkpoint.
        kept: arrays whose copy is an earlier one, because they show no difference to it; and the numbers of these copies.
    """

    tree: JSON
    arrays: Mapping[str, Dense]
    owners: Mapping[str, str]
    aliases: Mapping[str, str]
    raw: bool = False
    in_place: frozenset[str] = frozenset()
    kept: Mapping[str, int] = field(default_factory=dict)

    @property
    def left_nbytes(self) -> int:
        """Bytes of what was not copied."""
        return sum(self.arrays[key].nbytes for key in self.in_place)

    def metadata(self) -> dict[str, str]:
        """What goes into the safetensors file's own metadata, as `safetensors.torch.save_model` writes it."""
        formats = {_SAFETENSORS_FORMAT.get(owner, owner) for owner in self.owners.values()}
        return {**self.aliases, "format": "pt" if "pt" in formats else min(formats, default="np")}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The states of all tracked objects, by name. `nbytes` counts the arrays."""

    objects: Mapping[str, CapturedState]
    nbytes: int
    shards: Snapshot | None = None
    """What this rank holds of arrays that are spread over several, by object."""
    others: OtherParts | None = None
    """How the first rank hears that the others have written theirs."""

    @property
    def kept(self) -> dict[str, Mapping[str, int]]:
        """By object, the arrays whose copy is an earlier one, and the numbers of these copies."""
        return {name: state.kept for name, state in self.objects.items() if state.kept}

    def reserve(self, buffers: StagingBuffers) -> None:
        """Allocate and touch what `staged` will need, without copying: before training is in a hurry, and in any thread."""
        for name, state in self.objects.items():
            buffers.prepare(name, state.arrays, state.owners)
        if self.shards is not None:
            self.shards.reserve(buffers)

    def staged(
        self,
        buffers: StagingBuffers,
        *,
        synchronize: bool = True,
        unchanged: Unchanged | None = None,
        step: int | None = None,
        keep: bool = False,
    ) -> Snapshot:
        """A snapshot over copies in `buffers`; the originals may change as soon as this returns.

        With `synchronize=False` the caller calls `buffers.synchronize()` before anything writes to the
        originals. What looks as in the last checkpoint that `unchanged` knows is left where it lies: a commit
        finds out whether it was, and fails with `ChangedMeanwhileError` otherwise. With `keep` an earlier copy in `buffers`
        is taken again of what shows no difference to it, as `held_copies` says; `step` marks those that are made now.
        """
        objects = {
            name: _staged(name, state, buffers, unchanged, step, keep=keep)
            for name, state in self.objects.items()
        }
        shards = None if self.shards is None else self.shards.staged(buffers, synchronize=False)
        if synchronize:
            buffers.synchronize()
        return Snapshot(objects, self.nbytes, shards, self.others)


def _staged(
    name: str,
    state: CapturedState,
    buffers: StagingBuffers,
    unchanged: Unchanged | None,
    step: int | None,
    *,
    keep: bool,
) -> CapturedState:
    left = frozenset[str]()
    if unchanged is not None and not state.raw:
        left = unchanged.left_in_place(name, state.arrays)
    copies, kept = buffers.fill(name, state.arrays, state.owners, left, step, keep=keep)
    in_place = {key: state.arrays[key]._replace(in_place=True) for key in left}
    return replace(state, arrays=in_place | copies, in_place=left, kept=kept)


def capture(states: Mapping[str, object], translators: Sequence[Translator]) -> Snapshot:
    """Take the states of tracked objects apart, without copying an array.

    Args:
        states: `{"model": model.state_dict(), ...}`.
        translators: asked in this order for each value that is not plain Python.

    Raises:
        UnsavableStateError: a value that cannot be stored; the message says where it sits.
    """
    own = states.get(SHARDS)
    objects = {
        name: _capture_one(name, value, translators) for name, value in states.items() if name != SHARDS
    }
    nbytes = sum(d.nbytes for state in objects.values() for d in state.arrays.values())
    if not isinstance(own, OwnShards):
        return Snapshot(objects, nbytes)
    shards = capture_shards(own.shards, translators)
    return Snapshot(objects, nbytes + shards.nbytes, shards, own.others)


def capture_shards(shards: Shards, translators: Sequence[Translator]) -> Snapshot:
    """What one rank holds of arrays that are spread over several, taken apart as `capture` does.

    Raises:
        UnsavableStateError: as `capture`.
    """
    named = {f"{name}{_SHARDS_OF}": {"object": name, "shards": dict(of)} for name, of in shards.items()}
    return capture(named, translators)


def _capture_one(name: str, value: object, translators: Sequence[Translator]) -> CapturedState:
    if isinstance(value, RawFile):
        return CapturedState(None, {_RAW: value.content}, {_RAW: _RAW}, {}, raw=True)
    return _Capture(name, translators).state(value)


@dataclass(slots=True)
class _Stored:
    name: str
    node: ArrayNode
    references: Mapping[str, str]


class _Capture:
    """Walks one state. Values over the same memory are stored once."""

    def __init__(self, root: str, translators: Sequence[Translator]) -> None:
        self._translators = translators
        self._plain = PlainEncoder(root, self._foreign)
        self._arrays: dict[str, Dense] = {}
        self._owners: dict[str, str] = {}
        self._aliases: dict[str, str] = {}
        self._names = {"__metadata__", "format"}
        self._stored: dict[Hashable, _Stored] = {}
        self._above: KeyPath = None
        self._prefix = ""

    def state(self, value: object) -> CapturedState:
        tree = self._plain.encode(value)
        return CapturedState(tree, self._arrays, self._owners, self._aliases)

    def _foreign(self, value: object, place: KeyPath) -> JSON | None:
        for translator in self._translators:
            if translator.handles(value):
                break
        else:
            return None
        try:
            node = translator.take_apart(value)
            identity = node.identity or translator.identity(value)
        except TypeError as error:
            raise self._plain.refusal(place, f"cannot be stored: {error}.") from error
        name = self._name(place)
        if len(node.arrays) == 1 and "" in node.arrays:  # nearly all
            references = {"": name}
        else:
            references = {part: f"{name}.{part}" if part else name for part in node.arrays}
            self._names.update(references.values())
        if identity is not None:
            first = _Stored(name, node, references)
            known = self._stored.setdefault((translator.name, identity), first)
            if known is not first and known.node.arrays.keys() == node.arrays.keys():
                return self._again(name, known, node, translator)
        for part, dense in node.arrays.items():
            if dense.dtype not in DTYPE_BITS:
                raise self._plain.refusal(
                    place, f"has the dtype {dense.dtype}, which safetensors does not know."
                )
            self._arrays[references[part]] = dense
            self._owners[references[part]] = translator.name
        return self._node(name, node, translator, references)

    def _again(self, name: str, known: _Stored, node: ArrayNode, translator: Translator) -> JSON:
        for part, kept in known.references.items():
            alias = f"{name}.{part}" if part else name
            self._aliases[alias] = kept
            self._names.add(alias)
        if known.node.tag == node.tag and known.node.meta == node.meta:
            return {KIND: _SAME, "as": known.name}
        return self._node(name, node, translator, known.references)  # another object over the same memory

    def _node(self, name: str, node: ArrayNode, by: Translator, references: Mapping[str, str]) -> JSON:
        tree: dict[str, JSON] = {KIND: _NODE, "by": by.name, "tag": node.tag, "meta": node.meta}
        if node.arrays:
            tree["name"], tree["arrays"] = name, references
        return tree

    def _below(self, place: KeyPath) -> str:
        """The keys that lead to a value, with dots between them. Neighbours share all but the last key."""
        if place is None:
            return ""
        above, key = place
        if above is not self._above:
            self._above, self._prefix = above, "" if above is None else f"{self._below(above)}."
        name = f"{self._prefix}{key!s}"
        return name if name.isascii() else name.encode("utf-8", "replace").decode()

    def _name(self, place: KeyPath) -> str:
        """The state_dict name of a value, such as `layer.weight` or `state.0.exp_avg`; made unique."""
        name = self._below(place)[:_LONGEST_NAME] or "value"
        free, number = name, 2
        while free in self._names:
            free, number = f"{name}~{number}", number + 1
        self._names.add(free)
        return free


def rebuild(tree: JSON, arrays: Mapping[str, memoryview], translators: Sequence[Translator]) -> Any:
    """The state again.

    Args:
        tree: straight from the JSON parser.
        arrays: the writable bytes of each array.
        translators: those of the frameworks the state came from.

    Raises:
        StateMismatchError: no translator for a framework the state needs.
        ValueError, KeyError, TypeError, OverflowError: the tree is malformed.
    """
    by_name = {translator.name: translator for translator in translators}
    built: dict[str, object] = {}

    def foreign(node: Mapping[str, Any]) -> object:
        if node[KIND] == _SAME:
            return built[node["as"]]
        if node[KIND] != _NODE:
            raise ValueError(f"unknown kind {str(node[KIND])[:80]!r}")
        translator = by_name.get(node["by"])
        if translator is None:
            raise StateMismatchError(
                f"The checkpoint holds values of {str(node['by'])[:40]!r}, which this program does not use.",
                f"Load it in a program that uses {str(node['by'])[:40]}.",
            )
        parts = {part: arrays[name] for part, name in node.get("arrays", {}).items()}
        value = translator.build(node["tag"], node["meta"], parts)
        if "name" in node:
            built.setdefault(node["name"], value)
        return value

    decoder = PlainDecoder(foreign)
    return decoder.decode(tree)
