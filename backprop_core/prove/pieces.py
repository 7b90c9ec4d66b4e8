"""All that a training holds at a boundary, piece by piece, as digests under names that people read.

The pieces are read from the live objects, and not from what a checkpoint would hold: what an adapter forgets to keep is
seen all the same.
"""

from __future__ import annotations

import marshal
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import xxhash

from backprop_core.checkpoints.arrays import Translator
from backprop_core.ports.framework import Framework, Tracked
from backprop_core.prove.witness import Witness
from backprop_core.script_state.arrays import version_of
from backprop_core.script_state.graph import Graph, Node
from backprop_core.script_state.kinds import Kind, Kinds
from backprop_core.script_state.trackables import NumpyGlobalRandomTracked, PythonRandomTracked, track

LARGE_BYTES = 16 << 20
"""Larger arrays that nobody trains and that carry no count of changes are compared by samples."""
_BLOCKS, _BLOCK = 256, 4096
UNREAD = "?"
"""In place of the digest of an array that nobody can read; it is not compared."""
_DEEPEST = 20
_PARAMETER = re.compile(r"\._parameters\['[^']*'\]$")
_IN_PARTS = frozenset({"torch"})
"""Frameworks with a generator for each device."""


class Group(StrEnum):
    """What kind of piece it is. In the order in which one is the cause of the others."""

    GENERATOR = "random generators"
    BATCH = "batches"
    SCHEDULER = "schedulers"
    SCALER = "gradient scalers"
    VARIABLE = "script state"
    BUFFER = "buffers"
    ARRAY = "arrays"
    OPTIMIZER = "optimizer state"
    PARAMETER = "parameters"
    GRADIENT = "gradients"
    LOGGED = "logged values"
    FILE = "files"


Pieces = dict[str, tuple[Group, str]]
"""Group and digest by name."""


class Digests:
    """Takes the pieces of one process, boundary after boundary.

    Args:
        frameworks, translators: who know arrays and generators.
    """

    def __init__(self, frameworks: Sequence[Framework], translators: Sequence[Translator]) -> None:
        self._kinds = Kinds(frameworks, translators)
        self._frameworks = frameworks
        self._known: dict[int, tuple[Any, str]] = {}

    def of(self, witness: Witness) -> Pieces:
        """All pieces now."""
        found: Pieces = dict(self._generators())
        if witness.script is not None:
            found |= self._graph(witness.script.everything(witness.roots, witness.belongs_to_attempt))
        for name, value in witness.values.items():
            for leaf, digest in self.leaves(value, name):
                found[readable(leaf)] = (_group_of_value(leaf), digest)
        return found

    def batch(self, value: object) -> str:
        """The digest of what a step was trained on; empty where it holds nothing that could differ."""
        leaves = list(self.leaves(value, "", arrays_only=not isinstance(value, str | bytes)))
        return self._joined(digest for _, digest in leaves) if leaves else ""

    def _generators(self) -> Iterator[tuple[str, tuple[Group, str]]]:
        tracked: dict[str, Tracked] = {
            "python": PythonRandomTracked(random),
            "numpy": NumpyGlobalRandomTracked(),
            **{one.name: one.randomness() for one in self._frameworks},
        }
        for name, one in tracked.items():
            state = one.capture()
            if state is None:  # a package that has none, or is not there
                continue
            parts = state if isinstance(state, Mapping) and name in _IN_PARTS else {"": state}
            for part, held in parts.items():
                digest = self._joined(digest for _, digest in self.leaves(held, ""))
                yield f"random generator {name} {part}".rstrip(), (Group.GENERATOR, digest)

    def _graph(self, graph: Graph) -> Pieces:
        found: Pieces = {}
        names = {
            id(node.value): readable(node.name) for node in graph.nodes.values() if node.kind is Kind.ARRAY
        }
        for node in graph.nodes.values():
            for name, group, digest in self._node(node, names):
                found[readable(name)] = (group, digest)
        return found

    def _node(self, node: Node, names: Mapping[int, str]) -> Iterator[tuple[str, Group, str]]:
        match node.kind:
            case Kind.NAMESPACE | Kind.INSTANCE | Kind.CLOSURE | Kind.CLASS:
                for slot, written in (node.data or {"slots": {}})["slots"].items():
                    if not _is_reference(written):
                        yield f"{node.name}.{slot}", Group.VARIABLE, _plain(written)
            case Kind.ARRAY:
                yield node.name, _group_of_array(node), self._array(node.value)
                grad = getattr(node.value, "grad", None) if _is_parameter(node) else None
                if grad is not None:
                    yield f"gradient of {node.name}", Group.GRADIENT, self._array(grad)
            case Kind.RANDOM:
                state = track(node.name, node.value, self._frameworks).capture()
                yield node.name, Group.GENERATOR, self._joined(d for _, d in self.leaves(state, ""))
            case Kind.STATE_DICT:
                yield from self._state_dict(node, names)
            case Kind.LIST | Kind.DICT | Kind.SET | Kind.DEQUE | Kind.BYTES:
                if node.data is not None:
                    yield node.name, Group.VARIABLE, _plain(node.data, ordered=node.kind is not Kind.SET)

    def _state_dict(self, node: Node, names: Mapping[int, str]) -> Iterator[tuple[str, Group, str]]:
        try:
            state = node.value.state_dict()
        except Exception:  # an object that cannot say what it holds is nobody's piece
            return
        groups = getattr(node.value, "param_groups", None)
        if not isinstance(groups, list) or not isinstance(state, dict) or "state" not in state:
            group = _group_of_object(node)
            for leaf, digest in self.leaves(state, node.name):
                yield leaf, group, digest
            return
        order = [names.get(id(one), str(place)) for place, one in enumerate(_all_parameters(groups))]
        for number, slots in dict(state["state"]).items():
            whose = order[number] if isinstance(number, int) and number < len(order) else str(number)
            for leaf, digest in self.leaves(slots, ""):
                yield f"{node.name} {leaf.lstrip('.')} of {whose}", Group.OPTIMIZER, digest
        for place, one in enumerate(state.get("param_groups", ())):
            for key, value in dict(one).items():
                if key != "params":
                    for leaf, digest in self.leaves(value, f"{node.name}.param_groups[{place}].{key}"):
                        yield leaf, Group.OPTIMIZER, digest

    def leaves(
        self, value: Any, name: str, *, arrays_only: bool = False, depth: int = 0
    ) -> Iterator[tuple[str, str]]:
        """Each plain value and array in a nested state, under its name."""
        if depth > _DEEPEST:
            return
        if isinstance(value, Mapping):
            for key, member in value.items():
                yield from self.leaves(member, f"{name}.{key}", arrays_only=arrays_only, depth=depth + 1)
        elif isinstance(value, list | tuple) and not all(isinstance(one, int | float) for one in value):
            for place, member in enumerate(value):
                yield from self.leaves(member, f"{name}[{place}]", arrays_only=arrays_only, depth=depth + 1)
        elif self._kinds.translator(value) is not None:
            yield name, self._array(value)
        elif isinstance(value, list | tuple | str | bytes | set) or not arrays_only:
            yield name, _plain(value, ordered=not isinstance(value, set))

    def _array(self, value: Any) -> str:
        """All of its bytes, or of the block held here; a large one that torch says has not changed is not read again."""
        whole = value
        for framework in self._frameworks:
            value = framework.own_block(value)
        translator = self._kinds.translator(value)
        if translator is None:
            return UNREAD
        version = version_of(value)
        counts = version is not None and value is whole  # a block is another object each time
        mark = (version, getattr(value, "data_ptr", lambda: 0)()) if counts else None
        known = self._known.get(id(value))
        if known is not None and mark is not None and known[0] == mark:
            return known[1]
        try:
            node = translator.take_apart(value)
        except TypeError:
            return UNREAD
        seen = xxhash.xxh3_128(f"{node.tag} {sorted(map(str, node.meta.items()))}".encode())
        large = 0
        for name, dense in sorted(node.arrays.items()):
            seen.update(f"{name} {dense.dtype}{dense.shape}".encode())
            view, large = dense.view(), max(large, dense.nbytes)
            if dense.nbytes <= LARGE_BYTES or version is not None:
                seen.update(view)
            else:
                for start in range(0, dense.nbytes, max(1, dense.nbytes // _BLOCKS)):
                    seen.update(view[start : start + _BLOCK])
        digest = str(seen.hexdigest())
        if large > LARGE_BYTES and mark is not None and not getattr(value, "requires_grad", False):
            self._known[id(value)] = (mark, digest)
        return digest

    @staticmethod
    def _joined(digests: Iterable[str]) -> str:
        return str(xxhash.xxh3_128_hexdigest(" ".join(digests).encode()))


def _all_parameters(groups: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [one for group in groups for one in group.get("params", ())]


def _is_reference(written: Any) -> bool:
    """Whether a place holds an object that is a piece of its own, or one that belongs to the process."""
    return type(written) is dict and ("ref" in written or "handle" in written or "global" in written)


def _without_references(written: Any) -> Any:
    if type(written) is dict:
        if _is_reference(written):
            return "object"
        return {key: _without_references(value) for key, value in written.items()}
    if type(written) in (list, tuple):
        return [_without_references(one) for one in written]
    return written


def _plain(written: Any, *, ordered: bool = True) -> str:
    """A digest of plain values; what stands in a place of its own is left out."""
    written = _without_references(written)
    if not ordered:
        members = written.get("items", ()) if isinstance(written, dict) else written
        written = sorted(map(repr, members))
    try:
        text = marshal.dumps(written, 2)
    except ValueError:
        text = repr(written).encode("utf-8", "surrogatepass")
    return str(xxhash.xxh3_128_hexdigest(text))


def _is_parameter(node: Node) -> bool:
    """Whether an array is a module's parameter; one that is spread over ranks is of another class."""
    return node.plan.text.endswith(".Parameter") or _PARAMETER.search(node.name) is not None


def _group_of_array(node: Node) -> Group:
    if _is_parameter(node):
        return Group.PARAMETER
    return Group.BUFFER if "._buffers[" in node.name else Group.ARRAY


def _group_of_object(node: Node) -> Group:
    text = node.plan.text.lower()
    if "schedul" in text or ".lr_" in text:
        return Group.SCHEDULER
    return Group.SCALER if "scaler" in text else Group.VARIABLE


def _group_of_value(name: str) -> Group:
    known = {
        "model": Group.PARAMETER,
        "optimizer": Group.OPTIMIZER,
        "seed": Group.GENERATOR,
        "metrics": Group.VARIABLE,
    }
    return known.get(re.split(r"[ .]", name, maxsplit=1)[0], Group.VARIABLE)


_TORCH_PARTS = re.compile(r"\._(?:parameters|buffers|modules)\['([^']*)'\]")


def readable(name: str) -> str:
    """As torch itself names it: `main.model.fc.weight`."""
    return _TORCH_PARTS.sub(r".\1", name)
