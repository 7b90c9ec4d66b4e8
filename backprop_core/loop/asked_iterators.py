"""Generators and other one-shot iterators that a script asks for items: how many each has given, and which passes it began.

Nobody can set the place of a generator. But one that is made anew gives the same items again if it is asked as often as the
first was, and if the passes over loaders that it begins on the way begin as they did. So both are counted here, from the
script's start on. Iterators are known by identity and, where Python allows it, weakly.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import field
from types import CodeType, FrameType, GeneratorType
from typing import Any
from weakref import ref

from backprop_core.loop.read_files import is_file, place_in
from backprop_core.quick_dataclass import dataclass
from backprop_core.weak_identity import WeakIdentityMap

_MODULES = frozenset({"builtins", "itertools", "_io", "_csv"})
"""Where the types of iterators live that can only be asked; others show their attributes, or are loaders'."""
_GET = {}.get  # type: ignore[var-annotated]
_FEW = 64
_DEEP = 4


@dataclass(slots=True, eq=False)
class Asked:
    """What is known of one iterator.

    Attributes:
        begun: passes over loaders that have begun inside it.
        passes: how those began, by number, as far as they are needed to begin it again: readings, or their positions.
        plan: on the way back, how the next passes are to begin: a position, and the batches to leave out.
        otherwise: it was asked in a way that cannot be counted.
        seen: how often it had been asked, and how it looked, at the last checkpoint.
        place: of a file, where it was when it was first asked.
    """

    begun: int = 0
    passes: dict[int, Any] = field(default_factory=dict)
    plan: dict[int, tuple[Any, int]] = field(default_factory=dict)
    otherwise: bool = False
    seen: tuple[int, Any] | None = None
    only_last: bool = False
    place: Any = None
    direct: int = 0
    counters: list[Iterator[int]] = field(default_factory=list)

    def count_from(self, place: Any) -> None:
        """Count anew from here on, where a file has told its place: no loop is asking it for lines then."""
        if place is not None:
            self.place, self.direct = place, 0
            self.counters.clear()

    def count_with(self, counter: Iterator[int]) -> None:
        """Add what `counter` counts; those that are over are summed up."""
        running = []
        for one in self.counters:
            if sys.getrefcount(one) > _OURS_ALONE:
                running.append(one)
            else:
                self.direct += _at(one)
        self.counters = [*running, counter]

    @property
    def asks(self) -> int:
        """How often it was asked; also in vain, at its end."""
        return self.direct + sum(_at(one) for one in self.counters)


def _at(counter: Iterator[int]) -> int:
    return int(repr(counter)[len("count(") : -1])  # from Python 3.14 on it has no __reduce__


def _holders_of_a_listed() -> int:
    """References to an object that only a list holds, as `count_with` sees them: Python 3.14 counts fewer."""
    for one in [object()]:
        return sys.getrefcount(one)
    return 0


_OURS_ALONE = _holders_of_a_listed()


class AskedIterators:
    """All of the process."""

    def __init__(self) -> None:
        self._weak: WeakIdentityMap[Asked] = WeakIdentityMap()
        self._held: dict[int, tuple[Any, Asked]] = {}
        self._most = _FEW
        self._by_frame: dict[int, tuple[ref[Any], list[Asked]]] = {}
        self._kinds: dict[type, bool] = {}

    def is_one_shot(self, value: object) -> bool:
        """Whether it is an iterator of a kind that is counted."""
        kind = type(value)
        known = self._kinds.get(kind)
        if known is None:
            known = kind.__module__ in _MODULES and hasattr(kind, "__next__")
            self._kinds[kind] = known
        return known

    # -- what the script calls ---------------------------------------------------------------------------------

    def ask(self, iterator: Any) -> Any:
        """`next(x)` is about to ask `x`, which is returned."""
        if self.is_one_shot(iterator):
            self._from_here(iterator).direct += 1
        return iterator

    def counted(self, source: Any) -> Any:
        """What a loop, or a function that consumes it, goes over instead of `source`: the same items, counted in C."""
        if not self.is_one_shot(source) or is_counted(source):
            return source
        counter = itertools.count()
        self._from_here(source).count_with(counter)
        return map(_GET, counter, source)

    def _from_here(self, iterator: Any) -> Asked:
        """Its record; of a file that is not asked yet, it counts from its place."""
        record = self.of(iterator)
        if is_file(iterator):
            record.count_from(place_in(iterator))
        return record

    def other(self, iterator: Any) -> Any:
        """`x.send(…)` is about to be called."""
        if type(iterator) is GeneratorType:
            self.of(iterator).otherwise = True
        return iterator

    # -- records -----------------------------------------------------------------------------------------------

    def known(self, iterator: object) -> Asked | None:
        """The record of an iterator that was asked."""
        held = self._held.get(id(iterator))
        return held[1] if held is not None and held[0] is iterator else self._weak.get(iterator)

    def of(self, iterator: Any) -> Asked:
        """The record of `iterator`, from now on."""
        record = self.known(iterator)
        if record is None:
            record = Asked(only_last=passes_batches_through(iterator))
            try:
                self._weak[iterator] = record
            except TypeError:
                self._drop()
                self._held[id(iterator)] = (iterator, record)
            for generator in generators_in(iterator):
                self._watch(generator, record)
        return record

    def _drop(self) -> None:
        """What nobody else holds any more cannot be asked again."""
        if len(self._held) < self._most:
            return
        for number in list(self._held):
            if sys.getrefcount(self._held[number][0]) <= 2:
                del self._held[number]
        self._most = 2 * len(self._held) + _FEW

    def _watch(self, generator: GeneratorType[Any, Any, Any], record: Asked) -> None:
        frame = generator.gi_frame
        if frame is None:
            return
        number = id(frame)
        there = self._by_frame.get(number)
        if there is not None and there[0]() is generator:
            there[1].append(record)
            return

        def forget(gone: ref[Any]) -> None:
            entry = self._by_frame.get(number)
            if entry is not None and entry[0] is gone:
                del self._by_frame[number]

        self._by_frame[number] = (ref(generator, forget), [record])

    # -- passes ------------------------------------------------------------------------------------------------

    def asking(self, frame: FrameType | None) -> list[Asked]:
        """Records of the iterators that are being asked where `frame` is."""
        found: list[Asked] = []
        while frame is not None and self._by_frame:
            entry = self._by_frame.get(id(frame))
            if entry is not None:
                generator = entry[0]()
                if generator is not None and generator.gi_frame is frame:
                    found += entry[1]
            frame = frame.f_back
        return found


def planned(asking: Iterable[Asked]) -> tuple[Any, int] | None:
    """How the pass that begins now is to begin, on the way back."""
    found = None
    for record in asking:
        found = record.plan.pop(record.begun, None) or found
    return found


def note_pass(asking: Iterable[Asked], reading: Any) -> None:
    """A pass has begun inside these."""
    for record in asking:
        if record.only_last:
            record.passes.clear()
        record.passes[record.begun] = reading
        record.begun += 1


def is_counted(source: object) -> bool:
    """Whether it is what `counted` has made."""
    return type(source) is map and source.__reduce__()[1][0] is _GET


def uncounted(source: Any) -> Any:
    """What is inside of what `counted` has made."""
    return source.__reduce__()[1][2]


def inside(iterator: object) -> list[Any]:
    """What an iterator of Python's own holds on to, what it holds in tuples included."""
    found: list[Any] = []
    if type(iterator) is GeneratorType and iterator.gi_frame is None:
        return found
    for held in gc.get_referents(iterator):
        found += held if type(held) is tuple else [held]
    return [one for one in found if not isinstance(one, dict | FrameType | CodeType)]


def generators_in(iterator: object, deep: int = _DEEP) -> list[GeneratorType[Any, Any, Any]]:
    """The generator that `iterator` is, or those that it asks."""
    if type(iterator) is GeneratorType:
        return [iterator]
    if deep == 0 or type(iterator).__module__ not in ("builtins", "itertools") or not _is_iterator(iterator):
        return []
    return [one for held in inside(iterator) for one in generators_in(held, deep - 1)]


def iterators_in(iterator: object, deep: int = _DEEP) -> list[Any]:
    """All iterators that `iterator` asks, at any depth, where Python shows it."""
    found: list[Any] = []
    if deep and type(iterator).__module__ in ("builtins", "itertools"):
        for held in inside(iterator):
            if _is_iterator(held):
                found += [held, *iterators_in(held, deep - 1)]
    return found


def _is_iterator(value: object) -> bool:
    return hasattr(type(value), "__next__")


_PASSING = frozenset(
    {"CACHE", "COPY", "COPY_FREE_VARS", "END_FOR", "END_SEND", "EXTENDED_ARG", "FOR_ITER", "GET_ITER",
     "GET_YIELD_FROM_ITER", "CALL_INTRINSIC_1", "CLEANUP_THROW", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT",
     "JUMP_FORWARD", "LOAD_CONST", "LOAD_DEREF", "LOAD_FAST", "LOAD_FAST_BORROW", "NOP", "POP_ITER", "POP_TOP",
     "RERAISE", "RESUME", "RETURN_CONST", "RETURN_GENERATOR", "RETURN_VALUE", "SEND", "STORE_FAST",
     "STORE_FAST_LOAD_FAST", "SWAP", "YIELD_VALUE"}
)  # fmt: skip


def passes_batches_through(iterator: object) -> bool:
    """Whether it is a generator that holds no more than one iterator at a time, and gives on what that gives."""
    import dis

    from backprop_core.script_state.rewrite import LOOPED

    if type(iterator) is not GeneratorType:
        return False
    code, calls, own = iterator.gi_code, 0, 0
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL":
            own += step.argval == LOOPED
        elif step.opname in ("CALL", "PRECALL", "PUSH_NULL"):
            calls += step.opname == "CALL"
        elif step.opname not in _PASSING:
            return False
    begins = sum(step.opname in ("GET_ITER", "GET_YIELD_FROM_ITER") for step in dis.get_instructions(code))
    arguments = set(code.co_varnames[: code.co_argcount])
    stored = {step.argval for step in dis.get_instructions(code) if step.opname.startswith("STORE_FAST")}
    plain = code.co_flags & 0x0C == 0  # neither *args nor **kwargs
    return plain and begins == 1 and calls == own and not arguments & stored


_asked = AskedIterators()


def asked_iterators() -> AskedIterators:
    """Those of this process."""
    return _asked
