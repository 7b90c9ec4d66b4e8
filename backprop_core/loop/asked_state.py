"""Iterators that a script asks with `next`, or goes over in its loops, in a checkpoint: how often each was asked.

On a resume the one that stands in the same place is asked until it has given as much, its passes over loaders begun as they
were then. What cannot be brought back so, or does not look the same afterwards, is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import GeneratorType
from typing import Any

from backprop_core.checkpoints.arrays import Translator
from backprop_core.loop.asked_iterators import (
    Asked,
    asked_iterators,
    inside,
    iterators_in,
    passes_batches_through,
)
from backprop_core.loop.generator_contents import GeneratorContents
from backprop_core.loop.generator_makers import made_again, maker_of
from backprop_core.loop.loader_parts import made_by_index
from backprop_core.loop.read_files import another_file, go_to, is_file, place_in
from backprop_core.ports.loaders import LoaderPasses
from backprop_core.script_state.attributes import attributes_of
from backprop_core.script_state.kinds import Kinds
from backprop_core.script_state.namespace import Namespace
from backprop_core.script_state.script_classes import is_the_scripts
from backprop_core.script_state.unkept import Unkept
from backprop_core.true_class import is_a

_NOT_LOOKED_INTO = frozenset(
    {"torch", "numpy", "jax", "tensorflow", "keras", "accelerate", "transformers", "torchvision", "_io"}
)
_DATASETS = "torch.utils.data.dataset"
"""`Subset` and its like: what they are made of is the script's."""
_MOST = 100
_DEEP = 3


class AskedState:
    """Takes and gives back the places of such iterators.

    Args:
        passes: what the frameworks remember of the passes that a script has begun.
        translators: they know arrays.
    """

    def __init__(self, passes: Sequence[LoaderPasses], translators: Sequence[Translator]) -> None:
        self._passes = passes
        self._contents = GeneratorContents(Kinds((), translators))
        self._asked = asked_iterators()
        self._baseline: dict[str, tuple[Any, Any]] = {}
        self._files: dict[str, tuple[Any, Any]] = {}
        self.unkept: list[Unkept] = []

    def baseline(self, namespaces: Iterable[Namespace]) -> None:
        """Training begins: what moves from here on is the training's."""
        for name, value in self._places(namespaces):
            if is_file(value):
                self._files[name] = (value, place_in(value))
            held = self._asked.known(value)
            if held is not None:
                held.seen = (held.asks, looks_of(value))
            elif type(value) is GeneratorType and value.gi_frame is not None:
                self._baseline[name] = (value, looks_of(value))

    def capture(self, namespaces: Iterable[Namespace]) -> list[dict[str, Any]]:
        """How far each is; what cannot be told is in `unkept` then."""
        found, self.unkept = [], []
        spaces = list(namespaces)
        for name, value in self._places(spaces):
            if type(value) is GeneratorType and value.gi_running:
                continue  # the loop that trains is inside of it
            if (file := self._file(name, value)) is not None:
                found.append(file)
                continue
            try:
                trouble = self._trouble(name, value)
                if not trouble and (record := self._asked.known(value)) is not None and record.asks:
                    found.append(
                        {"name": name, "maker": maker_of(name, value, spaces), **self.state_of(value)}
                    )
            except Exception as error:  # a generator of a kind nobody has seen is no reason to save nothing
                trouble = f"it cannot be inspected ({type(error).__name__}: {error})"
            if trouble:
                self.unkept.append(_unkept(name, value, trouble))
        return found

    def _file(self, name: str, value: Any) -> dict[str, Any] | None:
        """Where a file is read; None where it has not moved, or a loop goes over it."""
        if not is_file(value):
            return None
        place, (file, before) = place_in(value), self._files.get(name, (None, None))
        if place is None or (file is value and place == before and self._asked.known(value) is None):
            return None
        return {"name": name, "file": place, "opened_in_training": file is not value}

    def _trouble(self, name: str, value: Any) -> str:
        record = self._asked.known(value)
        if record is None or not (record.asks or record.otherwise):
            return "it is used in a way that is not counted" if self._moved(name, value) else ""
        looks = looks_of(value)
        if record.seen is not None and record.seen[0] == record.asks and record.seen[1] != looks:
            record.otherwise = True
        record.seen = (record.asks, looks)
        if record.otherwise:
            return "it is used in a way that is not counted"
        return self.unknown_pass(value)

    def _moved(self, name: str, value: Any) -> bool:
        if type(value) is not GeneratorType:
            return False
        known = self._baseline.get(name)
        if known is not None and known[0] is value:
            return bool(known[1] != looks_of(value))
        return bool(value.gi_suspended)

    def unknown_pass(self, value: Any) -> str:
        """Why the pass over a loader inside `value` cannot be begun again, or nothing."""
        record = self._asked.of(value)
        known = [one for one in record.passes.values() if hasattr(one, "position")]
        for iterator in iterators_in(value):
            for passes in self._passes:
                made = passes.made_by(iterator)
                counts = passes.given_by(iterator) is not None
                if (counts and made is None) or (made is not None and all(made[1] is not k for k in known)):
                    return "it reads a loader in a way that is not known"
        return ""

    def state_of(self, value: Any) -> dict[str, Any]:
        """How far `value` is, for the checkpoint."""
        record = self._asked.of(value)
        given = self._given(value) if record.only_last else None
        positions = [  # on the way back its last batch is made once more
            [number, one.position(midway=given is not None) if hasattr(one, "position") else one]
            for number, one in record.passes.items()
        ]
        return {
            "asks": record.asks,
            "from": record.place,
            "begun": record.begun,
            "passes": positions,
            "made": [
                [number, one.made_ahead()]
                for number, one in record.passes.items()
                if hasattr(one, "made_ahead")
            ],
            "given": given,
            "holds": self._contents.digest(value),
            "contents": self._contents.taken(value),
        }

    def _given(self, value: Any) -> int | None:
        """Batches that the running pass has given, where it is all that the generator holds."""
        inner = iterators_in(value, 1)
        if len(inner) != 1:
            return None
        given: Iterator[int | None] = (p.given_by(inner[0]) for p in self._passes if p.made_by(inner[0]))
        return next(given, None)

    # -- giving back -------------------------------------------------------------------------------------------

    def restore(
        self, saved: Sequence[Mapping[str, Any]], namespaces: Iterable[Namespace], *, partly: bool = False
    ) -> list[str]:
        """Ask each for what it lacks.

        Args:
            partly: on the way, where some may not be there yet and others be further.

        Returns:
            The names of those that do not stand where they stood, and why.
        """
        spaces = list(namespaces)
        there = dict(self._places(spaces)) if saved else {}
        missing = []
        for one in saved:
            name = one["name"]
            value = there.get(name)
            if value is None and not partly and one.get("maker"):
                value = made_again(name, one["maker"], spaces)
            if one.get("opened_in_training") and not (
                is_file(value) and not another_file(value, one["file"])
            ):
                continue  # the script is about to open it, or reads another one by now
            if not (self._asked.is_one_shot(value) or is_file(value)):
                trouble = "it is not an iterator here"
            else:
                trouble = self.bring(value, one)[0]
            if trouble:
                missing.append(f"{name} ({trouble})")
        return [] if partly else missing

    def bring(self, value: Any, saved: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Ask `value` until it stands where the saved one stood.

        Returns:
            What is wrong with it then, and the last item that it gave.
        """
        record = self._asked.of(value)
        if is_file(value):
            trouble = self._wound(value, record, saved)
            if trouble or "asks" not in saved:
                return trouble, []
        lacks = int(saved["asks"]) - record.asks
        if lacks < 0:
            return "it has yielded more items here than at the checkpoint", []
        if not lacks:
            return "", []
        if self._begun_otherwise(record, saved):
            return "the pass over its loader started differently here", []
        self.arm(value, saved)
        if self._goes_straight(value, record, saved):
            position, given = saved["passes"][-1][1], int(saved["given"])
            record.begun, record.plan = int(saved["begun"]) - 1, {}
            record.plan[record.begun] = (position, given - 1)
            record.direct += lacks - 1
            lacks = 1
        last: list[Any] = []
        try:
            for _ in range(lacks):
                record.direct += 1
                last = [next(value)]
        except StopIteration:
            record.direct = int(saved["asks"]) - (record.asks - record.direct)
        except Exception as error:
            return f"yielding its items again failed: {type(error).__name__}: {error}", []
        record.plan.clear()
        return self.settle(value, saved), last

    def _wound(self, file: Any, record: Asked, saved: Mapping[str, Any]) -> str:
        """Have a file go to the place from which it was asked, or to which it was read; what is wrong with that."""
        place = (
            saved["file"] if "file" in saved else saved.get("from")
        )  # not in checkpoints of earlier versions
        trouble = another_file(file, place)
        if place is not None and not trouble:
            go_to(file, place)
            record.count_from(place)
        return trouble

    def settle(self, value: Any, saved: Mapping[str, Any]) -> str:
        """Put what `value` held into it, now that it has given as many items; what is wrong with it then."""
        contents = saved.get("contents")  # not in checkpoints of earlier versions
        holds = self._contents.digest(value, whole=contents is not None)
        if holds != saved["holds"] and contents is not None:
            self._contents.put(value, contents)
            holds = self._contents.digest(value)
        if holds != saved["holds"] or self._asked.of(value).begun != saved["begun"]:
            return "after the same number of items, its contents differ"
        return ""

    def arm(self, value: Any, saved: Mapping[str, Any]) -> None:
        """The passes that begin in `value` from now on begin as they did."""
        record = self._asked.of(value)
        made = dict(saved.get("made", ()))  # not in the oldest checkpoints
        record.plan = {
            number: ({**one, "made": made.get(number)}, 0)
            for number, one in saved["passes"]
            if number >= record.begun
        }

    def _goes_straight(self, value: Any, record: Asked, saved: Mapping[str, Any]) -> bool:
        return bool(saved["given"] and saved["passes"] and not record.asks and passes_batches_through(value))

    def _begun_otherwise(self, record: Asked, saved: Mapping[str, Any]) -> bool:
        for number, position in saved["passes"]:
            here = record.passes.get(number)
            if here is not None:
                mine = here.position(midway=False) if hasattr(here, "position") else here
                if self._contents.digest_of(mine) != self._contents.digest_of(position):
                    return True
        return False

    # -- where they are ------------------------------------------------------------------------------------------

    def _places(self, namespaces: Iterable[Namespace]) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for space in namespaces:
            for name, value in list(space.items()):
                yield from self._below(f"{space.name}.{name}", value, seen, _DEEP)

    def _below(
        self, name: str, value: Any, seen: set[int], deep: int, *, owns: bool = True
    ) -> Iterator[tuple[str, Any]]:
        kind = type(value)
        if id(value) in seen or (is_file(value) and not owns):
            return
        if self._asked.is_one_shot(value) or is_file(value):
            seen.add(id(value))
            yield name, value
        elif not deep or is_a(value, type):
            return
        elif kind in (list, tuple) and len(value) <= _MOST:
            for number, one in enumerate(value):
                yield from self._below(f"{name}[{number}]", one, seen, deep - 1)
        elif kind is dict and len(value) <= _MOST:
            for key, one in list(value.items()):
                if type(key) in (str, int):
                    yield from self._below(f"{name}[{key!r}]", one, seen, deep - 1)
        elif (parts := made_by_index(value)) is not None:
            seen.add(id(value))
            for part, one in parts.items():
                yield from self._below(f"{name}.{part}", one, seen, _DEEP)
        elif kind.__module__ not in ("builtins", "types") and not _is_foreign(kind):
            seen.add(id(value))
            owns = is_the_scripts(kind)  # what a package holds it reads in a way of its own
            for attribute, one in attributes_of(value):
                yield from self._below(f"{name}.{attribute}", one, seen, deep - 1, owns=owns)


def _is_foreign(kind: type) -> bool:
    module = str(kind.__module__)
    return module.partition(".")[0] in _NOT_LOOKED_INTO and module != _DATASETS


def looks_of(iterator: Any, deep: int = 3) -> Any:
    """What differs once an iterator has been asked; the same as long as nobody asks it."""
    if type(iterator) is GeneratorType:
        frame = iterator.gi_frame
        if frame is None:
            return "over"
        place: Any = frame.f_lasti
    elif type(iterator).__module__ == "itertools" or type(iterator) in (enumerate, zip, map, filter):
        place = repr(iterator) if type(iterator).__name__ == "count" else None
    elif hasattr(type(iterator), "__length_hint__"):
        place = type(iterator).__length_hint__(iterator)
    else:
        return None
    held = inside(iterator)
    return (place, [id(one) for one in held], [looks_of(one, deep - 1) for one in held] if deep else [])


def _unkept(name: str, value: Any, why: str) -> Unkept:
    return Unkept(
        name,
        type(value).__name__,
        why,
        "A resume starts it from the beginning. Read it with next(...) or in a for loop of the script.",
    )
