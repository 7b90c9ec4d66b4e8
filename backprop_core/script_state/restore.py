"""Putting a difference back: in place and by name, nothing before all of it has been looked at.

Collections, arrays and generators that this process does not have are made, and plain objects of installed packages; objects
of the script's classes never are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from weakref import ref

from backprop_core.errors import StateMismatchError
from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state import arrays, held_values, values
from backprop_core.script_state.baseline import can_be_told_apart
from backprop_core.script_state.iterators import bring_to
from backprop_core.script_state.kinds import Kind, Kinds
from backprop_core.script_state.making import (
    NotMadeError,
    empty,
    found_by_name,
    generator,
    made_by,
    made_of,
    plain_instance,
    tuple_of,
)
from backprop_core.script_state.methods import method_of
from backprop_core.script_state.namespace import NotSetError
from backprop_core.script_state.numbered import NumberedObjects
from backprop_core.script_state.packing import unpacked
from backprop_core.script_state.paths import INDEX, VALUE_AT, NotThereError, Path, Roots
from backprop_core.script_state.restored import IN_PLACE, Missing, Restored
from backprop_core.script_state.shared_strings import made_one
from backprop_core.script_state.trackables import copied, track
from backprop_core.script_state.writing import fill, set_slot, unset_slot

_NOT_HERE = "it is not here"
_BY_SLOT = (Kind.INSTANCE, Kind.NAMESPACE, Kind.CLOSURE, Kind.CLASS)

_NONE: Any = object()


class _Unresolved(Exception):
    """A place refers to something that is not here; `quietly`: a new attempt has its own."""

    def __init__(self, why: str, *, quietly: bool = False) -> None:
        super().__init__(why)
        self.quietly = quietly


@dataclass(slots=True, eq=False)
class _Entry:
    name: str
    kind: Kind
    data: Any
    target: Any
    make: bool


class Restoring:
    """Puts one difference back.

    Args:
        here: what was here at the first boundary, by name; nothing where that is not known for certain.
        made: what an earlier difference of the same checkpoint has had made, by number. It is held weakly.
        before: objects of this process by the names under which an earlier difference was put back.
        created: collections that were put there for a difference, by their ids: none of them was here at the first boundary.
        sure: a list, too, is the one that `here` has by its name, wherever it lies now: no code has run in between that
            could have put another there.
        partly: `here` may lack something: functions that began later have variables, too.
    """

    def __init__(
        self,
        state: Mapping[str, Any],
        roots: Roots,
        kinds: Kinds,
        here: Mapping[str, object],
        made: NumberedObjects,
        before: Mapping[str, Callable[[], object]],
        created: dict[int, object],
        *,
        sure: bool = False,
        partly: bool = False,
    ) -> None:
        self._before, self._created = before, created
        self._sure, self._partly = sure, partly
        self._here = here
        self._called = {id(value): name for name, value in here.items()}
        self._made = made
        self._anew: dict[Path, object] = {}
        self._called_anew: set[str] = set()
        self._state = state
        self._roots = roots
        self._kinds = kinds
        self._entries: list[_Entry] = []
        self._to_look: list[tuple[Any, Mapping[str, Any]]] = []
        self._objects: dict[str, Any] = {}
        self._others: set[str] = set()  # of the same name as one at the first boundary
        self._result = Restored()

    def run(self) -> Restored:
        """Look at all of it, then put it back.

        Raises:
            StateMismatchError: it is no state of this kind, or an object refused its own; nothing was changed.
        """
        try:
            self._state = {**self._state, "nodes": made_one(self._state["nodes"])}
            self._read()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise StateMismatchError(
                f"The script's state in the checkpoint cannot be read: {type(error).__name__}: {error}.",
                "Start from another checkpoint, or from scratch with resume=False (a new run).",
            ) from error
        for entry in self._entries:
            self._provide(entry)
        for target, told in self._to_look:
            target.data = arrays.hollow({**told, "parameter": False, "grad": False})
            target.grad = None
        self._load_state_dicts()
        for entry in self._entries:
            if entry.name in self._objects and entry.kind is not Kind.ITERATOR:
                self._write(entry)
        for entry in self._entries:  # what they go over has to be there
            if entry.kind is Kind.ITERATOR:
                self._bring(entry)
        self._settle()
        return self._result

    def lacks(self) -> bool:
        """Whether an object is not here that was stored, or referred to, and that is not made again by us."""
        try:
            self._read()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            return False  # `run` tells of it
        return any(one.why == _NOT_HERE for one in self._result.missing) or any(
            name not in self._objects for name in self._state["paths"]
        )

    def _settle(self) -> None:
        """Tell the frameworks whose attributes have come back."""
        owners = {id(entry.target): entry.target for entry in self._entries if entry.kind is Kind.INSTANCE}
        for node in self._state["nodes"]:
            with suppress(NotThereError):
                owner = self._roots.follow(_path(node["path"])[:-1] or _path(node["path"]))
                owners[id(owner)] = owner
        for framework in self._kinds.frameworks:
            for owner in owners.values():
                framework.settle(owner)

    # -- looking -----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        new = (node["name"] for node in self._state["nodes"] if node["new"])
        self._others = {*self._state.get("others", ()), *new}
        for node in self._state["nodes"]:
            if Kind(node["kind"]) is Kind.INSTANCE and node["data"].get("recipe") is not None:
                self._prepare(node)
        for name, path in self._state["paths"].items():
            with suppress(NotThereError):
                self._objects[name] = self._untouched(name, _path(path))
        for node in self._state["nodes"]:
            name, kind, path = node["name"], Kind(node["kind"]), _path(node["path"])
            target = None
            with suppress(NotThereError):
                target = self._found(name, path)
            if kind is Kind.PART:
                self._part(node, target)
                continue
            if target is None:  # or it is None until somebody asks for it the first time
                target = self._made_plainly(kind, node)
            there = target is not None
            entry = _Entry(name, kind, node["data"], target, make=False)
            why = self._unfit(entry, node) if there else _NOT_HERE
            in_one_made = self._owner(name, path) is not None  # whose attributes are all put there anew
            other = node["new"] and not in_one_made
            if not there or why or (other and not self._is_filled(kind, target)):
                entry.make = True
                stays = there and not node["new"] and not in_one_made
                if stays or kind in (*_BY_SLOT, Kind.STATE_DICT, Kind.ITERATOR):
                    if kind is not Kind.CLOSURE:  # functions are the new process's own
                        self._result.missing.append(Missing(name, why))
                    continue
            self._entries.append(entry)

    def _part(self, node: Mapping[str, Any], target: Any) -> None:
        """An array whose elements come from another file: the one that is here, as it looked then, or a new one."""
        name, told = node["name"], node["data"]
        there = self._made.get(told["number"])
        fits = target is not None and self._kinds.plan(target).text == node["type"]
        if (
            fits and node["new"]
        ):  # not what lay there at the first boundary, but what the script has made since
            fits = id(target) not in self._called and arrays.is_like(target, told)
        if there is not None:
            target = there
        elif not fits:
            target = arrays.hollow(told)
            self._made.restored(told["number"], target)
        if not arrays.is_like(target, told):
            self._to_look.append((target, told))
        self._objects[name] = target
        self._put(name)

    def _prepare(self, node: Mapping[str, Any]) -> None:
        """An object that is made anew, or was for an earlier difference: what lies in it is found from there."""
        path, recipe = _path(node["path"]), node["data"]["recipe"]
        made, there = self._made.get(recipe["number"]), None
        if not node["new"] and made is None:
            with suppress(NotThereError):
                there = self._found(node["name"], path)
        if there is None:
            with suppress(NotMadeError):
                there = made_by(recipe, self._kinds) if made is None else made
                self._made.restored(recipe["number"], there)
                self._anew[path] = there
                self._called_anew.add(node["name"])

    def _untouched(self, name: str, path: Path) -> object:
        """An object that is referred to and not stored: where it was, though what it lay in may be made anew.

        Raises:
            NotThereError: it is not here.
        """
        there = self._made.get(self._state.get("numbers", {}).get(name, 0))
        if there is not None:  # a list had grown by it, and the difference before this one has put it there
            return there
        if (
            name in self._here
            and name not in self._others
            and (self._sure or can_be_told_apart(self._here[name]))
        ):
            return self._here[name]
        with suppress(NotThereError):
            return self._followed(name, path)
        # What it lay in was exchanged by the difference before this one.
        there = self._before.get(name, _gone)()
        return self._found(name, path) if there is None else there

    def objects(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """All that could be referred to, by name, and held weakly."""
        for name, value in self._objects.items():
            with suppress(TypeError):
                yield name, ref(value)

    def _followed(self, name: str, path: Path) -> object:
        there = self._roots.follow(path)
        named = name in self._here
        another = named and id(there) in self._created  # a list has shifted
        if (named or not self._partly) and self._called.get(id(there), name) != name:
            another = True
        if named and there is not self._here[name] and name not in self._others and self._by_place(path):
            another = True  # the script itself has shifted it meanwhile
        if another or self._leads_through_made(path):
            raise NotThereError(name)
        return there

    def _by_place(self, path: Path) -> bool:
        """Whether a list, a deque or the order of a dictionary decides what `path` leads to."""
        return any(
            how in (INDEX, VALUE_AT) and not isinstance(self._roots.follow(path[:length]), tuple)
            for length, (how, _) in enumerate(path)
        )

    def _found(self, name: str, path: Path) -> object:
        """The object of this name. What its path leads to is another one of them, once a list has been sorted.

        Raises:
            NotThereError: it is not here.
        """
        owner = self._owner(name, path)
        if owner is not None:
            return self._roots.behind(self._anew[owner], path[len(owner) :])
        with suppress(NotThereError):
            return self._followed(name, path)
        if name not in self._here:
            raise NotThereError(name)
        return self._here[name]

    def _leads_through_made(self, path: Path) -> bool:
        """Whether an object lies on the way that an earlier difference has had made, under another name."""
        return bool(self._made) and any(
            self._made.was_restored(self._roots.follow(path[:length])) for length in range(2, len(path) + 1)
        )

    def _owner(self, name: str, path: Path) -> Path | None:
        """The way to the innermost object that is made anew and that `path` leads into."""
        if name in self._here and name not in self._called_anew:  # that lay there at the first boundary
            return None
        ways = (path[:length] for length in range(len(path), 0, -1))
        return next((way for way in ways if way in self._anew), None) if self._anew else None

    def _made_plainly(self, kind: Kind, node: Mapping[str, Any]) -> Any:
        """What a package's method made while it trained, such as the optimizer of an estimator; None where it cannot be."""
        if kind is not Kind.INSTANCE or not node["data"].get("whole"):
            return None
        with suppress(NotMadeError):
            return plain_instance(node["type"], node["data"]["slots"])
        return None

    def _is_filled(self, kind: Kind, target: Any) -> bool:
        """Whether a new collection is put into the one that is here."""
        taken = any(entry.target is target for entry in self._entries)
        return (
            bool(self._state.get(IN_PLACE))
            and kind not in (Kind.ARRAY, Kind.RANDOM, Kind.OPAQUE)
            and not taken
        )

    def _unfit(self, entry: _Entry, node: Mapping[str, Any]) -> str:
        """Why the object that is here cannot be changed into what was stored, as half a sentence, or nothing."""
        if entry.kind in (Kind.NAMESPACE, Kind.CLASS):
            return ""
        plan = self._kinds.plan(entry.target)
        if entry.kind is Kind.INSTANCE and plan.text == node["type"]:
            plan = self._kinds.plan_to_make(entry.target, plan)
        if plan.kind is not entry.kind or plan.text != node["type"]:
            return f"it was a {_short(node['type'])} and is a {_short(plan.text)}"
        return self._looks_unfit(entry)

    def _looks_unfit(self, entry: _Entry) -> str:
        if entry.kind is Kind.ARRAY:
            saved, here = arrays.looks(entry.data["array"]), arrays.looks(entry.target)
            if saved != here:
                return f"it was {saved} and is {here}"
            return "" if arrays.is_mutable(entry.target) else "it cannot be written in place"
        if entry.kind is Kind.HELD:
            return held_values.unfit(entry.target, entry.data["held"])
        if entry.kind is Kind.DEQUE and entry.target.maxlen != entry.data["maxlen"]:
            return f"its maxlen was {entry.data['maxlen']} and is {entry.target.maxlen}"
        if entry.kind is Kind.RANDOM:
            tracked = track(entry.name, entry.target, self._kinds.frameworks)
            return tracked.mismatch(entry.data["state"]) or ""
        return ""

    def _provide(self, entry: _Entry) -> None:
        """The object that is written to: the one that is here, or a new one."""
        if not entry.make:
            self._objects[entry.name] = entry.target
            return
        try:
            if entry.kind is Kind.ARRAY:
                shared = self._shared(entry.data)
                new = arrays.made(entry.data["array"], entry.data) if shared is None else shared
                self._objects[entry.name] = new
            elif entry.kind is Kind.OPAQUE:
                self._objects[entry.name] = made_of(self._type_of(entry), entry.data["arguments"])
            elif entry.kind is Kind.RANDOM:
                self._objects[entry.name] = generator(entry.data["state"], self._kinds)
            else:
                self._objects[entry.name] = new = empty(entry.kind, entry.data, self._type_of(entry))
                if self._here:
                    self._created[id(new)] = new
        except NotMadeError as error:
            self._result.missing.append(Missing(entry.name, str(error)))

    def _shared(self, data: Mapping[str, Any]) -> Any:
        """A view of the tensor whose memory the stored one shared; None where that is not here."""
        shares = data.get("shares")
        owner = None if shares is None else self._objects.get(shares["ref"])
        return None if owner is None else arrays.sharing(owner, shares, data["array"])

    def _type_of(self, entry: _Entry) -> str:
        return next(str(node["type"]) for node in self._state["nodes"] if node["name"] == entry.name)

    # -- writing -----------------------------------------------------------------------------------------------

    def _load_state_dicts(self) -> None:
        """First, because these run code that may refuse; then all of them are as they were."""
        undo: list[Callable[[], None]] = []
        for entry in self._entries:
            if entry.kind is not Kind.STATE_DICT:
                continue
            target, before = entry.target, copied(entry.target.state_dict())
            undo.append(lambda target=target, before=before: target.load_state_dict(before))  # type: ignore[misc]
            try:
                self._load(target, copied(entry.data["state"]))
            except Exception as error:
                for step_back in reversed(undo):
                    step_back()
                raise StateMismatchError(
                    f"The checkpoint does not fit this script: {entry.name}.load_state_dict failed with "
                    f"{type(error).__name__}: {error}. Nothing was restored.",
                    "Run the script as it was, or start from scratch with resume=False (a new run).",
                ) from error
            self._put(entry.name)

    def _load(self, target: Any, state: Any) -> None:
        """An optimizer inside of another one shares groups with it, which its framework knows to keep."""
        if "param_groups" in getattr(target, "__dict__", {}):
            for framework in self._kinds.frameworks:
                if (known := framework.adopt(target)) is not None:
                    known.restore(state)
                    return
        target.load_state_dict(state)

    def _write(self, entry: _Entry) -> None:
        target = self._objects[entry.name]
        if entry.kind is Kind.ARRAY:
            if not entry.make:
                arrays.write(target, entry.data["array"])
            self._put(entry.name)
        elif entry.kind is Kind.RANDOM:
            track(entry.name, target, self._kinds.frameworks).restore(entry.data["state"])
            if "slots" in entry.data:
                self._write_slots(entry, target)
            self._put(entry.name)
        elif entry.kind is Kind.HELD:
            held_values.put(target, entry.data["held"])
            self._put(entry.name)
        elif entry.kind is Kind.OPAQUE:
            self._put(entry.name)
        elif entry.kind in _BY_SLOT:
            self._write_slots(entry, target)
        elif entry.kind is not Kind.STATE_DICT:
            self._write_members(entry, target)

    def _bring(self, entry: _Entry) -> None:
        if why := bring_to(entry.target, entry.data["place"]):
            self._result.missing.append(Missing(entry.name, why))
        else:
            self._put(entry.name)

    def _write_slots(self, entry: _Entry, target: Any) -> None:
        done = []
        for name, written in entry.data["slots"].items():
            try:
                value = self._value(written)
            except _Unresolved as problem:
                if not problem.quietly:
                    self._result.missing.append(Missing(f"{entry.name}.{name}", str(problem)))
                continue
            try:
                set_slot(target, entry.kind, name, value)
            except NotSetError as error:
                self._result.missing.append(Missing(f"{entry.name}.{name}", str(error)))
                continue
            done.append(name)
        for name in entry.data.get("gone", ()):
            unset_slot(target, entry.kind, name)
            done.append(name)
        self._result.names += [f"{entry.name}.{name}" for name in done]
        self._result.slots[entry.name] = frozenset(done)

    def _write_members(self, entry: _Entry, target: Any) -> None:
        data = entry.data
        try:
            members = {
                place: [self._value(one, target, n) for n, one in enumerate(unpacked(data[place]))]
                for place in ("items", "keys", "values")
                if place in data
            }
            if entry.make and "factory" in data:
                target.default_factory = self._value(data["factory"])
            attributes = {name: self._value(one) for name, one in data.get("slots", {}).items()}
        except _Unresolved as problem:
            self._result.missing.append(Missing(entry.name, str(problem)))
            return
        fill(target, entry.kind, members, data.get("bytes"))
        for name, value in attributes.items():
            set_slot(target, Kind.INSTANCE, name, value)
        self._put(entry.name)

    def _put(self, name: str) -> None:
        self._result.names.append(name)
        self._result.slots.setdefault(name, frozenset())

    # -- values in their places ----------------------------------------------------------------------------------

    def _value(self, written: Any, within: Any = None, index: int = -1) -> Any:
        if type(written) is not dict:
            return written
        if "ref" in written:
            return self._object(written["ref"])
        if "tuple" in written:
            members = [self._value(one) for one in written["tuple"]]
            try:
                return tuple_of(members, written.get("type"), self._kinds)
            except NotMadeError as error:
                raise _Unresolved(str(error)) from None
        if "method" in written:
            try:
                return method_of(self._value(written["of"]), written["method"])
            except NotMadeError as error:
                raise _Unresolved(str(error)) from None
        found = self._unchanging(written)
        if found is not _NONE:
            return found
        if within is not None and isinstance(within, list) and index < len(within):
            here = list.__getitem__(within, index)  # a handle: this attempt's own
            if self._kinds.plan(here).kind is Kind.HANDLE:
                return here
        raise _Unresolved(f"it held a {_short(written['handle'])} of the earlier process", quietly=True)

    def _unchanging(self, written: Any) -> Any:
        """A value that never changes, found by its name or made again; `_NONE` for a handle."""
        try:
            if "flags" in written:
                return self._named(written["enum"])(written["flags"])
            if "enum" in written:
                kind = self._named(written["enum"])
                return type.__dict__["__dict__"].__get__(kind)["_member_map_"][written["member"]]
            if values.VALUE in written:
                return values.read(written, self._named)
        except (KeyError, TypeError, ValueError) as error:
            raise _Unresolved(f"it cannot be made here: {type(error).__name__}: {error}") from None
        return self._named(written["global"]) if "global" in written else _NONE

    def _named(self, reference: Any) -> Any:
        try:
            return found_by_name(reference, self._kinds)
        except NotMadeError as error:
            raise _Unresolved(str(error)) from None

    def _object(self, name: str) -> Any:
        if name not in self._objects:
            told = any(one.name == name for one in self._result.missing)
            raise _Unresolved(f"{name} is not here", quietly=told)
        return self._objects[name]


def _gone() -> None:
    """Stands for an object of which nothing is known."""


def _path(path: Any) -> Path:
    return tuple((str(how), which) for how, which in path)


def _short(text: object) -> str:
    return str(text).rpartition(".")[2]
