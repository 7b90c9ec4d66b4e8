"""What differs from a baseline: what is stored, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from typing import Any, Final

from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.arrays import Reader, facts, hollow_facts, is_mutable, memory_of, view_of
from backprop_core.script_state.baseline import BY_SLOT, Baseline, Known, Look, text_of
from backprop_core.script_state.graph import Graph, Node
from backprop_core.script_state.held_values import MADE_EMPTY
from backprop_core.script_state.iterators import can_be_asked
from backprop_core.script_state.kinds import Kind, Kinds
from backprop_core.script_state.making import arguments_of, can_be_made, recipe_of
from backprop_core.script_state.namespace import MODULE, DictNamespace, FrameNamespace
from backprop_core.script_state.paths import ATTRIBUTE, KEY_AT, Path
from backprop_core.script_state.references import references_in, without
from backprop_core.script_state.unkept import (
    Unkept,
    by_bucket,
    cached,
    cannot_store,
    cut_short,
    hidden,
    moved,
    new_instance,
    own_place,
    replaced,
)

_COLLECTIONS: Final = (Kind.LIST, Kind.DICT, Kind.SET, Kind.DEQUE, Kind.BYTES)
_KEEPS_ITS_PLACE: Final = "torchdata.nodes."
"""A loop counts what such a loader has given, and the loader does, too."""
_BY_BUCKET: Final = "torch.distributed.algorithms.ddp_comm_hooks."
"""Put back, what such a hook remembers met other buckets: a resume with it differed as well."""
_NEVER_MADE: Final = (*BY_SLOT, Kind.STATE_DICT, Kind.ITERATOR)
"""Kinds of which nothing is made anew: that would be to run the script's code."""
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
        made_lately: whether a value in a variable (then None) or a holder is one that a new process does not make in time.
        put_again: the first object in a collection, behind some steps, that the code which a new process runs puts there
            again; None where that cannot be told.
        number_of: a number for an object that another process may have to make, the same in all differences.
        read_by_loops: what the training loops read from, by identity: iterators in it come to their places with the loops.
            None: that is not known.
    """

    def __init__(
        self,
        baseline: Baseline,
        kinds: Kinds,
        reader: Reader,
        sticky: Mapping[str, frozenset[str]],
        *,
        made_again: bool = False,
        made_lately: Callable[[object, object], bool] = lambda value, holder: False,
        put_again: Callable[[object, Path], object | None] = lambda collection, steps: None,
        number_of: Callable[[object], int] = id,
        read_by_loops: Collection[int] | None = (),
    ) -> None:
        self._read_by_loops = read_by_loops
        self._read: set[Path] = set()
        self._around_trainer: set[Path] = set()
        self._baseline = baseline
        self._made_again = made_again
        self._made_lately = made_lately
        self._put_again = put_again
        self._number_of = number_of
        self._instances: set[Path] = set()
        self._late: set[str] = set()
        self._anew: set[Path] = set()
        self._holders: dict[Path, object] = {}
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
        read = self._read_by_loops or ()
        self._read = {node.path for node in graph.nodes.values() if id(node.value) in read}
        self._around_trainer = {
            node.path
            for node in graph.nodes.values()
            if type(node.value) in (DictNamespace, FrameNamespace) and not node.value.loops_counted
        }
        self._late = {
            node.name
            for node in graph.nodes.values()
            if node.plan.text == MODULE and node.name not in self._baseline.known
        }
        self._holders = {node.path: node.value for node in graph.nodes.values()}
        looks_now = {name: Look(self._kinds, self._reader).at(node) for name, node in graph.nodes.items()}
        made = {name for name, node in graph.nodes.items() if self._is_another(node)}
        _note_sharing(graph, made)
        for name, node in graph.nodes.items():
            self._compare(node, looks_now[name], made)
        ours = {name for name in made if graph.nodes[name].kind is Kind.CLOSURE}
        self._holders.clear()
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
        if known is not None and node.kind is Kind.PART:
            return known.kind not in (Kind.ARRAY, Kind.PART) or known.ident != id(node.value)
        if known is None or known.kind is not node.kind or known.text != text_of(node):
            return True
        if node.kind in (Kind.OPAQUE, Kind.ITERATOR):
            return known.ident != id(node.value)
        if node.kind is not Kind.ARRAY:
            return False
        same = known.alive is not None and known.alive() is node.value
        is_parameter = node.plan.text.endswith(".Parameter")
        return not (same or is_parameter) or not is_mutable(node.value)

    def _compare(self, node: Node, now: Look, made: set[str]) -> None:
        known = self._baseline.known.get(node.name)
        another = node.name in made
        if node.kind in (Kind.ELSEWHERE, Kind.HANDLE) or (node.cold and not another):
            return
        if node.kind is Kind.PART:
            self._part(node, known, another)
            return
        if node.kind is Kind.OPAQUE:
            arguments = arguments_of(node.value) if another or node.name in self._sticky else None
            if arguments is not None:
                self._store(node, {"arguments": arguments}, True)
            elif another and not (known is None and self._is_made_again(node)):
                self._found.unkept.append(replaced(node.name, node.plan.text))
            return
        if node.kind is Kind.ITERATOR:
            self._iterator(node, now, known, another)
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
        data = node.data
        if node.kind is Kind.ARRAY:
            data = {"array": node.value, **facts(node.value), **({} if data is None else data)}
        self._store(node, data, another)

    def _part(self, node: Node, known: Known | None, another: bool) -> None:
        """An array whose elements are in another file: a new process may have to make it first, or give it another shape."""
        looks_otherwise = known is not None and known.text != text_of(node)
        if not (another or looks_otherwise or node.name in self._sticky):
            return
        if known is None and node.name not in self._sticky and self._is_made_again(node):
            return
        told = {**hollow_facts(node.value), "number": self._number_of(node.value)}
        self._append(node, told, new=another)

    def _iterator(self, node: Node, now: Look, known: Known | None, another: bool) -> None:
        if known is None and len(node.path) == _VARIABLE and node.path[:1] not in self._around_trainer:
            return  # the code that has made it runs again, which a Trainer's hooks do not
        has_moved = known is not None and not another and known.mark != now.mark
        if not another and can_be_asked(node.value):
            if has_moved or node.name in self._sticky:
                self._store(node, node.data, False)
        elif (another or has_moved) and not self._comes_with_a_loop(node):
            self._found.unkept.append((replaced if another else moved)(node.name, node.plan.text))
        elif node.data["place"] is None and not self._comes_with_a_loop(node):
            self._found.unkept.append(hidden(node.name, node.plan.text))

    def _comes_with_a_loop(self, node: Node) -> bool:
        """Whether it lies in what a training loop reads from, which goes on where it was."""
        if self._read_by_loops is None:
            return True
        return any(node.path[:length] in self._read for length in range(1, len(node.path) + 1))

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
        if known is None and node.kind in (Kind.CLOSURE, Kind.CLASS, Kind.BOUND):
            return  # a function that is made anew, like any other: the new process makes its own
        if known is None and node.kind is not Kind.NAMESPACE and not self._is_made_again(node):
            self._made_anew(node, changed)
        elif node.kind is Kind.BOUND and changed:
            self._found.unkept.append(replaced(node.name, node.plan.text))
        elif changed or gone:
            whole = {} if known is not None else self._whole(node)
            self._store(node, {"slots": changed, "gone": gone, **whole}, False)

    def _whole(self, node: Node) -> dict[str, Any]:
        """What is stored besides all of an object's attributes, so that it can be made where it is not there."""
        recipe = recipe_of(node.value, self._kinds) if node.kind is Kind.INSTANCE else None
        if recipe is None:
            return {"whole": True}
        return {"whole": True, "recipe": {**recipe, "number": self._number_of(node.value)}}

    def _made_anew(self, node: Node, slots: dict[str, Any]) -> None:
        """An object that no new process makes before it is restored."""
        whole = self._whole(node)
        if "recipe" in whole and not any(type(one) is dict and "handle" in one for one in slots.values()):
            self._anew.add(node.path)
            self._store(node, {"slots": slots, "gone": [], **whole}, False, anew=True)
        else:
            self._found.unkept.append(new_instance(node.name, node.plan.text))

    def _is_made_again(self, node: Node) -> bool:
        """Whether the script's code makes the object in a new process, too.

        What a collection has grown by only where the code on the way to the running loops makes it grow.
        """
        if node.path[0][1] in self._late and all(how == ATTRIBUTE for how, _ in node.path[1:]):
            return True  # by the import of its module
        if not self._made_again or self._is_in_one_made_anew(node):
            return False
        if self._made_lately(node.value, self._holder_of(node)):
            return False
        for length in range(len(node.path) - 1, 0, -1):
            kind = self._kinds_known.get(node.path[:length])
            if kind is not None:
                steps = node.path[length:]
                if kind in BY_SLOT or any(how == KEY_AT for how, _ in steps):  # no such key is there yet
                    return kind in BY_SLOT
                again = self._put_again(self._holders.get(node.path[:length]), steps)
                return again is not None and not self._baseline.had(again)  # it had another class then
        return True

    def _holder_of(self, node: Node) -> object:
        """The object that `node` lies in; None for a variable's value."""
        for length in range(len(node.path) - 1, _VARIABLE - 1, -1):
            if node.path[:length] in self._holders:
                return self._holders[node.path[:length]]
        return None

    def _is_in_one_made_anew(self, node: Node) -> bool:
        return bool(self._anew) and any(
            node.path[:length] in self._anew for length in range(1, len(node.path))
        )

    def _is_part_of_made(self, node: Node) -> bool:
        """Whether it lies in an object that the new process makes, too, which has its own in that place."""
        if not self._made_again or node.name in self._baseline.known or self._is_in_one_made_anew(node):
            return False
        return any(node.path[:length] in self._instances for length in range(1, len(node.path)))

    def _store(self, node: Node, data: Any, another: bool, *, anew: bool = False) -> None:
        never = _of_a_type_that_is_never_kept(node.name, node.plan.text)
        if never is not None:
            self._found.unkept.append(never)
            return
        if node.trouble:
            self._found.unkept.append(cannot_store(node.name, node.plan.text, node.trouble))
            return
        if (
            another
            and (node.kind in _NEVER_MADE or (node.kind is Kind.HELD and node.plan.text not in MADE_EMPTY))
            and node.name not in self._baseline.known
            and not self._is_made_again(node)
        ):
            self._found.unkept.append(new_instance(node.name, node.plan.text))
            return
        if another and node.kind in _COLLECTIONS and not self._is_part_of_made(node):
            if not can_be_made(node.plan.text):
                self._found.unkept.append(new_instance(node.name, node.plan.text))
                return
            if type(data.get("factory")) is dict and "handle" in data["factory"]:
                why = "its default_factory is a function that cannot be found by name"
                self._found.unkept.append(cannot_store(node.name, node.plan.text, why))
                return
        new = anew or (another and node.kind not in _NEVER_MADE and not self._is_part_of_made(node))
        self._append(node, data, new=new)

    def _append(self, node: Node, data: Any, *, new: bool) -> None:
        self._found.nodes.append(
            {
                "name": node.name,
                "path": [list(step) for step in node.path],
                "kind": node.kind.value,
                "type": node.plan.text,
                "new": new,
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
        if name not in made and node.kind in (Kind.ARRAY, Kind.ELSEWHERE, Kind.PART):
            owners.setdefault(memory_of(node.value), node)
    for node in views:
        owner, view = owners.get(memory_of(node.value)), view_of(node.value)
        if owner is not None and view is not None and owner.value.dtype == node.value.dtype:
            node.data = {"shares": {"ref": owner.name, **view}}


def _of_a_type_that_is_never_kept(name: str, kind: str) -> Unkept | None:
    if kind == "functools._lru_cache_wrapper":
        return cached(name)
    if kind.startswith(_BY_BUCKET):
        return by_bucket(name, kind)
    return own_place(name, kind) if kind.startswith(_KEEPS_ITS_PLACE) else None
