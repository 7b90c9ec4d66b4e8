"""The state of a script: a baseline, what differs from it, and putting that back.

state = ScriptState([DictNamespace(globals, "main"), ("net", net)], tracked_elsewhere=..., frameworks=...)
state.baseline()                  # at the first boundary, before anything is restored
state.restore(saved)              # in a process that resumes
saved = state.changed()           # at each checkpoint; what cannot be kept is in `unkept()` then
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.ports.framework import Framework
from backprop_core.script_state.arrays import READ_AT_ONCE, Reader
from backprop_core.script_state.baseline import FORMAT, Baseline
from backprop_core.script_state.comparison import Comparison
from backprop_core.script_state.graph import Graph
from backprop_core.script_state.kinds import Kind, Kinds
from backprop_core.script_state.late_modules import import_late_modules
from backprop_core.script_state.making import NotMadeError, found_by_name, recipe_of
from backprop_core.script_state.namespace import DictNamespace, Namespace
from backprop_core.script_state.numbered import NumberedObjects
from backprop_core.script_state.packing import packed
from backprop_core.script_state.paths import NotThereError, Path, Roots
from backprop_core.script_state.process_settings import ProcessSettings
from backprop_core.script_state.references import references_in
from backprop_core.script_state.restored import Missing, Restored
from backprop_core.script_state.shared_strings import with_numbers
from backprop_core.script_state.tracked_places import objects_at, objects_in, where_they_lie
from backprop_core.script_state.unkept import Unkept, in_short
from backprop_core.script_state.walk import MOST_OBJECTS, Walk

if TYPE_CHECKING:
    from backprop_core.script_state.restore import Restoring

Root = Namespace | tuple[str, object]

_MOST_LATER = 20 * MOST_OBJECTS


class ScriptState:
    """Finds, stores and restores what a script changes.

    Args:
        roots: where to look, or what tells it anew each time: frames come and go.
        tracked_elsewhere: whether the checkpoint has an object already; it is not looked into.
        frameworks: they know arrays and generators.
        made_again: in a process that resumes, the script's code runs again up to where it was, so objects that it has made
            by then under names of its own are there; they are stored, and it is said on a resume if one is not.
        made_lately: whether a value in a variable (then None) or a holder is one that it has not made by then.
        put_again: the first object in a collection, behind some steps, that it has put there by then.
        iterators: whether iterators are looked at; else somebody else keeps their places.
        read_by_loops: tells what the training loops read from, by identity; None where that is not known.
        tracked: the objects that the checkpoint has as files of their own, by name: it is stored where each of them lies.
    """

    def __init__(
        self,
        roots: Sequence[Root] | Callable[[], Sequence[Root]],
        *,
        tracked_elsewhere: Callable[[object], bool] = lambda value: False,
        frameworks: Sequence[Framework] = (),
        translators: Sequence[Translator] | None = None,
        made_again: bool = False,
        made_lately: Callable[[object, object], bool] = lambda value, holder: False,
        put_again: Callable[[object, Path], object | None] = lambda collection, steps: None,
        iterators: bool = True,
        read_by_loops: Callable[[], Collection[int] | None] = tuple,
        tracked: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self._tracked = tracked
        self._read_by_loops = read_by_loops
        self._given = roots
        self._made_lately = made_lately
        self._put_again = put_again
        self._made_again = made_again
        self._elsewhere = tracked_elsewhere
        own = [*(framework.translator for framework in frameworks), NumpyTranslator()]
        self._kinds = Kinds(frameworks, own if translators is None else translators, iterators=iterators)
        self._baseline: Baseline | None = None
        self._sticky: dict[str, frozenset[str]] = {}
        self._unkept: list[Unkept] = []
        self._made = NumberedObjects()
        self._held: dict[str, object] = {}
        self._sure = self._partly = False
        self._created: dict[int, object] = {}
        self._before: dict[str, Callable[[], object]] = {}

    def baseline(self, *, hold: bool = False) -> Baseline:
        """Remember how things are now. What differs from it later is what a checkpoint holds.

        Args:
            hold: keep all of it alive until `let_go`, so that what is restored is found by what it is, wherever it lies.
                Without that, another list may lie at the address of one that is gone.

        Returns:
            The baseline, for `changed(since=...)`: what a loop changed from its beginning to its end, say.
        """
        with _uncollected():
            graph = self._walk(None)
            baseline = Baseline.of(graph, self._kinds, Reader())
        baseline.is_held = hold
        if hold:
            self._held = {name: node.value for name, node in graph.nodes.items()}
        if self._baseline is None:
            self._baseline = baseline
        return baseline

    def hold(self, *, code_runs: bool = False) -> None:
        """Keep what the baseline knows and is still there alive until `let_go`: it is found by what it is from now on.

        Needed before a second difference is put back: the first may have put other objects where paths lead.

        Args:
            code_runs: the script's code runs in between, and may put another list where one lay.
        """
        baseline = self._baseline or self.baseline()
        with _uncollected():
            found = self._walk(baseline).nodes
        self._held = {name: node.value for name, node in found.items() if baseline.is_same(name, node.value)}
        self._partly = True
        named = {name for name, known in baseline.known.items() if known.kind is not Kind.NAMESPACE}
        baseline.is_held = self._held.keys() >= named
        self._sure = baseline.is_held and not code_runs

    def let_go(self) -> None:
        """All is restored: hold on to nothing any more."""
        self._held, self._sure, self._partly = {}, False, False
        self._created.clear()
        if self._baseline is not None:
            self._baseline.is_held = False

    def begin_anew(self) -> None:
        """Take things as they are now for the baseline."""
        self._baseline = None
        self.baseline()

    def extend_baseline(self) -> None:
        """Remember how things are in roots that were not there before, such as a function that has been entered since."""
        if self._baseline is None:
            self.baseline()
            return
        roots = [root for root in self._roots() if not isinstance(root, DictNamespace)]
        fresh = {
            _name_of(root) for root in roots
        } - self._baseline.known.keys()  # a module may have changed since
        if fresh:
            self._baseline.extend(self._walk(self._baseline), fresh, self._kinds, Reader())

    def everything(self, more: Sequence[Root], belongs_to_attempt: Callable[[object], bool]) -> Graph:
        """All objects that can be reached now from the roots and `more`, also what the checkpoint has in files of its own.

        Args:
            belongs_to_attempt: whether an object is not looked into.
        """
        roots = [root for root in self._roots() if not isinstance(root, ProcessSettings)]
        return Walk(self._kinds, belongs_to_attempt, None, _MOST_LATER).over([*more, *roots])

    def reached(self) -> frozenset[int]:
        """All objects that are looked into now, by identity."""
        return frozenset(map(id, self.looked_into()))

    def looked_into(self) -> list[object]:
        """All objects that are looked into now."""
        found = self._walk(self._baseline).nodes.values()
        return [node.value for node in found if node.kind not in (Kind.ELSEWHERE, Kind.PART)]

    def names_of(self, objects: Collection[int]) -> frozenset[str]:
        """The names of those of `objects`, given by identity, that are looked into now."""
        found = self._walk(self._baseline).nodes.values()
        return frozenset(node.name for node in found if id(node.value) in objects)

    def at(self, path: Iterable[Sequence[Any]]) -> object | None:
        """What lies at a path of a stored node, if anything does."""
        with suppress(NotThereError):
            return self._reachable().follow(tuple((str(how), which) for how, which in path))
        return None

    def generators(self) -> list[tuple[str, object]]:
        """The random generators that the baseline has found, by name, as far as they are still in their places."""
        if self._baseline is None:
            return []
        roots, found = self._reachable(), []
        for known in self._baseline.known.values():
            if known.kind is Kind.RANDOM:
                with suppress(NotThereError):
                    found.append((known.name, roots.follow(known.path)))
        return found

    @property
    def has_baseline(self) -> bool:
        return self._baseline is not None

    def changed(self, *, since: Baseline | None = None, most_bytes: int = READ_AT_ONCE) -> dict[str, Any]:
        """What differs from the baseline, for the checkpoint's codec. References, no copies: to be stored at once.

        Args:
            since: another baseline than the first.
            most_bytes: of large arrays that carry no count of changes, so many are read to compare them.
        """
        baseline = since or self._baseline
        if baseline is None:
            baseline = self.baseline()
        with _uncollected():
            return self._changed(baseline, most_bytes, first=since is None)

    def _changed(self, baseline: Baseline, most_bytes: int, *, first: bool) -> dict[str, Any]:
        graph = self._walk(baseline)
        sticky = self._sticky if first else {}
        found = Comparison(
            baseline,
            self._kinds,
            Reader(most_bytes),
            sticky,
            made_again=self._made_again,
            made_lately=self._made_lately,
            put_again=self._put_again,
            number_of=self._made.number_of,
            read_by_loops=self._read_by_loops(),
        ).of(graph)
        self._unkept = in_short(found.unkept)
        if first:
            self._remember(found.nodes)
        nodes = [{**node, "data": packed(node["data"])} for node in with_numbers(found.nodes)]
        stored = {node["name"] for node in nodes}
        paths = {
            name: [list(step) for step in graph.nodes[name].path]
            for node in found.nodes
            for name in _references(node["data"])
            if name not in stored and name in graph.nodes
        }
        others = [name for name in paths if not baseline.is_same(name, graph.nodes[name].value)]
        lie = where_they_lie(graph, baseline, self._tracked())
        named = [*paths, *(node for node, *_ in lie.values())]
        numbers = {
            name: number for name in named if (number := self._made.known_number(graph.nodes[name].value))
        }
        return {
            "format": FORMAT,
            "nodes": nodes,
            "paths": paths,
            "others": others,
            "objects": lie,
            "numbers": numbers,
        }

    def restore(self, state: Mapping[str, Any]) -> Restored:
        """Put a difference back, in place and by name.

        Raises:
            StateMismatchError: it cannot be read, or an object refuses its own; nothing was changed.
        """
        import_late_modules(state, self._kinds.frameworks)
        restoring = self._restoring(state)
        restored = restoring.run()
        self._before.update(restoring.objects())
        for name, slots in restored.slots.items():
            self._sticky[name] = self._sticky.get(name, frozenset()) | slots
        return restored

    def objects_in(self, state: Mapping[str, Any]) -> dict[str, object]:
        """What was tracked by each name when `state` was stored, as far as it is here now."""
        return objects_in(state, self._reachable(), self._held, self._made)

    def objects_at(self, state: Mapping[str, Any]) -> dict[str, object]:
        """What lies now where the variables led to what was tracked; not of what was there at the first boundary."""
        return objects_at(state, self._reachable())

    def lacks(self, state: Mapping[str, Any]) -> bool:
        """Whether `restore` would miss an object, which the script may be about to make. Changes nothing."""
        return self._restoring(state).lacks()

    def _restoring(self, state: Mapping[str, Any]) -> Restoring:
        from backprop_core.script_state.restore import Restoring  # late: only a resume needs it

        return Restoring(
            state,
            self._reachable(),
            self._kinds,
            self._held,
            self._made,
            self._before,
            self._created,
            sure=self._sure,
            partly=self._partly,
        )

    def _remember(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        """What differed once is stored from now on: code that runs again on the way to a place may change it again."""
        for node in nodes:
            data = node["data"]
            by_slot = isinstance(data, Mapping) and "gone" in data
            slots = frozenset([*data["slots"], *data["gone"]]) if by_slot else frozenset()
            self._sticky[node["name"]] = self._sticky.get(node["name"], frozenset()) | slots

    def expect(self, state: Mapping[str, Any]) -> None:
        """From now on what `state` holds is stored whether it differs or not."""
        self._remember(state["nodes"])

    def can_make(self, value: object) -> bool:
        """Whether a process that lacks `value` can make it without code of the script's."""
        return recipe_of(value, self._kinds) is not None

    def unkept(self) -> list[Unkept]:
        """What had changed at the last `changed()` and is not in it."""
        return list(self._unkept)

    def _roots(self) -> Sequence[Root]:
        return self._given() if callable(self._given) else self._given

    def _reachable(self) -> Roots:
        roots = self._roots()
        return Roots(
            {root[0]: root[1] for root in roots if isinstance(root, tuple)},
            {root.name: root for root in roots if not isinstance(root, tuple)},
            self._class_named,
        )

    def _class_named(self, reference: str) -> type:
        module, _, name = reference.partition(":")
        try:
            found = found_by_name([module, name], self._kinds)
        except NotMadeError as error:
            raise LookupError(str(error)) from None
        if not isinstance(found, type):
            raise LookupError(f"{name} is no class here")
        return found

    def _walk(self, earlier: Baseline | None) -> Graph:
        most = MOST_OBJECTS if earlier is None else _MOST_LATER
        taken: frozenset[str] = frozenset()
        while True:
            walk = Walk(self._kinds, self._elsewhere, earlier, most, taken)
            graph = walk.over(self._roots())
            if walk.taken <= taken:
                return graph
            taken |= walk.taken  # a new object stands where one stood that comes later: it needs another name


@contextmanager
def _uncollected() -> Iterator[None]:
    """Inside, the garbage collector waits: a walk makes many objects at once, and none of them in a cycle."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _name_of(root: Root) -> str:
    return root[0] if isinstance(root, tuple) else root.name


def has_parts(state: object) -> bool:
    """Whether a stored difference tells of arrays that are to be there before their elements are put back."""
    return isinstance(state, Mapping) and any(node["kind"] == Kind.PART for node in state["nodes"])


def names_in(state: Mapping[str, Any]) -> list[str]:
    """The names of what a stored difference holds, as people read them."""
    names: list[str] = []
    for node in state["nodes"]:
        if node["kind"] in ("instance", "namespace", "closure", "class"):
            names += [f"{node['name']}.{slot}" for slot in node["data"]["slots"]]
            names += [f"{node['name']}.{slot} (deleted)" for slot in node["data"].get("gone", ())]
        else:
            names.append(node["name"])
    return names


def _references(data: Any) -> Iterable[str]:
    if not isinstance(data, Mapping):
        return
    yield from references_in(data.get("shares"))
    for place in ("items", "keys", "values"):
        for written in data.get(place, ()):
            yield from references_in(written)
    for written in data.get("slots", {}).values():
        yield from references_in(written)


__all__ = ["Baseline", "Missing", "Restored", "Root", "ScriptState", "Unkept", "has_parts", "names_in"]
