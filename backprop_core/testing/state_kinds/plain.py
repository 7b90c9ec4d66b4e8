"""Kinds of state that scripts keep while they train, for programs of the contract in `state_contract.py`.

The file is copied beside a program, so that its classes are the program's own. Each kind is made when the program starts,
changed once a step by what it holds alone, and looked at: a kind that did not come back is another from then on.
"""

from __future__ import annotations

import array
import datetime
import decimal
import fractions
import functools
import hashlib
import itertools
import os
import random
import types
import uuid
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from backprop_core.quick_dataclass import dataclass

from .things import (
    Amount,
    BestSoFar,
    Bits,
    Color,
    Frozen,
    Lazy,
    OwnDict,
    OwnList,
    Pair,
    Proxy,
    Slotted,
    Speaking,
    Thing,
)


@dataclass(frozen=True)
class StateKind:
    """One kind of state.

    Attributes:
        make: the state when the program starts.
        change: one step; what takes its place.
        look: what can be seen of it, the same text in every process.
        named: it cannot be kept, so it has to be named.
        every_epoch: it is made anew when an epoch begins.
    """

    make: Callable[[], Any]
    change: Callable[[Any], Any]
    look: Callable[[Any], object] = lambda state: state
    named: bool = False
    every_epoch: bool = False


def in_place(act: Callable[[Any], object]) -> Callable[[Any], Any]:
    """A change in place."""

    def change(state: Any) -> Any:
        act(state)
        return state

    return change


def _attributes(state: Any) -> object:
    return sorted(vars(state).items())


def _one_more(state: list[Any]) -> None:
    state.append(len(state) / 3)


def _counting() -> Callable[[], int]:
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return count

    counted.calls = 0  # type: ignore[attr-defined]
    return counted


def _call(state: Any) -> None:
    state.calls += state()


def _of_two_calls() -> list[Any]:
    def made() -> type:
        class Counting:
            made = 0

        return Counting

    return [made()(), made()]


def _count_on_both(state: list[Any]) -> None:
    type(state[0]).made += 1
    state[1].made += type(state[0]).made


def _numbers() -> Iterator[int]:
    number = 1
    while True:
        number = (number * 7 + 1) % 1009
        yield number


def _twice() -> list[Any]:
    shared = [0]
    return [shared, {"again": shared}]


def _cycle() -> Thing:
    thing = Thing()
    thing.me = [thing]  # type: ignore[attr-defined]
    return thing


def _appear(state: Thing) -> None:
    state.number += 1
    if state.number % 3:
        state.sometimes = state.number / 7  # type: ignore[attr-defined]
    elif "sometimes" in vars(state):
        del state.sometimes  # type: ignore[attr-defined]


def _ema(state: dict[str, float]) -> None:
    state["updates"] += 1
    state["weight"] += (state["updates"] ** 2 - state["weight"]) / 7


def _new_groups(state: Any) -> Any:
    groups = defaultdict(list) if state is None else state
    groups[len(groups) // 2].append(len(groups))
    groups[len(groups) + 5].append(1)
    return groups


def _replayed(state: deque[Any]) -> deque[Any]:
    state.append(state[-1] + 1)
    return state


def _replay(state: deque[Any]) -> None:
    state.append((len(state), [state[-1][0] + 1 if state else 0.5]))


def _drop_oldest(state: deque[Any] | list[Any]) -> None:
    number = state[-1][0] + 1
    state.append((number, [number]))
    if isinstance(state, list):
        state.pop(0)
    state[0][1].append(number)


def _reorder(state: OrderedDict[str, int]) -> None:
    first = next(iter(state))
    state[first] += 1
    state.move_to_end(first)


def _count_on_class(state: Thing) -> None:
    type(state).made += 1


def _deal(state: list[int]) -> None:
    state.insert(0, state.pop() * 3 % 101)


def _aliased(state: list[Any]) -> None:
    state[0].append(sum(state[1]["again"]) + 1)


def _around(state: Any) -> None:
    state.me[0].number += 1


def _one_step(state: Any) -> None:
    state.steps += 1


def _both_sides(state: Slotted) -> None:
    state.left += 1
    state.right.append(state.left)


def _more_pages(state: OwnDict) -> None:
    state["a"] += 1
    state.pages = state["a"]


def _more_lines(state: OwnList) -> None:
    state.append(2)
    state.pages = len(state)


def _next_kind(state: Any) -> Any:
    kinds = [1.5, "text", [2], None, 3]
    return kinds[(kinds.index(state) + 1) % len(kinds)]


def peeked(state: Any) -> object:
    return next(state)


_SELF: Callable[[Any], Any] = lambda state: state  # noqa: E731
_UTC = datetime.UTC
_START = datetime.datetime(2024, 1, 1, tzinfo=_UTC)
_DAY = datetime.timedelta(days=1)

KINDS: dict[str, StateKind] = {
    "whole_number": StateKind(lambda: 0, lambda n: n + 1),
    "average": StateKind(lambda: 1.0, lambda x: 0.9 * x + 0.3 / x),
    "complex_number": StateKind(lambda: 1j, lambda z: z * (1 + 0.5j)),
    "text": StateKind(lambda: "", lambda text: f"{len(text)}{text}"[:40]),
    "some_bytes": StateKind(lambda: b"a", lambda some: bytes([len(some)]) + some),
    "other_kinds": StateKind(lambda: None, _next_kind),
    "filled_list": StateKind(list, in_place(_one_more), every_epoch=True),
    "nested_list": StateKind(lambda: [[0], [[1.0]]], in_place(lambda some: some[1][0].append(len(some[1][0])))),
    "dealt_list": StateKind(lambda: list(range(10)), in_place(_deal)),
    "averaged_dict": StateKind(lambda: {"weight": 0.0, "updates": 0}, in_place(_ema), _SELF),
    "keyed_by_tuples": StateKind(dict, in_place(lambda some: some.update({(len(some), "k"): len(some)}))),
    "keyed_by_members": StateKind(dict, in_place(lambda some: some.update({Color(len(some) % 3 + 1): some.copy()}))),
    "replay_deque": StateKind(lambda: deque(maxlen=6), in_place(_replay)),
    "counter": StateKind(Counter, in_place(lambda some: some.update([sum(some.values()) % 4]))),
    "default_dict": StateKind(lambda: defaultdict(list), in_place(lambda some: some[len(some) // 2 % 3].append(len(some)))),
    "ordered_dict": StateKind(lambda: OrderedDict(a=1, b=2, c=3), in_place(_reorder), lambda some: list(some.items())),
    "chained": StateKind(lambda: ChainMap({}, {"a": 1}), in_place(lambda some: some.update(a=some["a"] + 1)), dict),
    "user_dict": StateKind(lambda: UserDict(a=1), in_place(lambda some: some.update(a=some["a"] * 3)), dict),
    "user_list": StateKind(lambda: UserList([1]), in_place(lambda some: some.append(len(some))), list),
    "set_of_numbers": StateKind(set, in_place(lambda some: some.add(len(some) ** 2)), sorted),
    "frozen_set": StateKind(frozenset, lambda some: some | {len(some) * 3}, sorted),
    "byte_array": StateKind(lambda: bytearray(b"a"), in_place(lambda some: some.append(len(some)))),
    "typed_array": StateKind(lambda: array.array("d", [1.0]), in_place(lambda some: some.append(some[-1] / 3))),
    "a_range": StateKind(lambda: range(1), lambda some: range(some.stop, some.stop * 2)),
    "named_tuple": StateKind(lambda: Pair(0, []), lambda some: Pair(some.left + 1, [*some.right, some.left])),
    "in_named_tuple": StateKind(lambda: Pair(0, []), in_place(lambda some: some.right.append(len(some.right)))),
    "data_class": StateKind(BestSoFar, in_place(lambda some: some.seen.append(len(some.seen) * 2))),
    "frozen_class": StateKind(Frozen, lambda some: replace(some, step=some.step + 1, curve=(*some.curve, some.step / 3))),
    "slotted": StateKind(
        Slotted,
        in_place(_both_sides),
        lambda some: (some.left, some.right),
    ),
    "attributes_that_appear": StateKind(Thing, in_place(_appear), _attributes),
    "exchanged_instance": StateKind(Thing, lambda some: Thing(some.number + 1), _attributes),
    "name_space": StateKind(lambda: types.SimpleNamespace(n=0), in_place(lambda some: setattr(some, "n", some.n + 1))),
    "aliases": StateKind(_twice, in_place(_aliased)),
    "cycle": StateKind(_cycle, in_place(_around), lambda some: some.number),
    "member": StateKind(lambda: Color.RED, lambda some: Color(some.value % 3 + 1)),
    "flags": StateKind(lambda: Bits.A, lambda some: Bits((some.value + 1) % 8), lambda some: some.value),
    "moment": StateKind(lambda: _START, lambda some: some + _DAY),
    "zoned_moment": StateKind(
        lambda: _START.astimezone(ZoneInfo("Europe/Berlin")), lambda some: some + _DAY, lambda some: some.isoformat()
    ),
    "duration": StateKind(lambda: _DAY, lambda some: some * 2 % (1000 * _DAY) + some),
    "some_path": StateKind(lambda: PurePosixPath("a"), lambda some: PurePosixPath("b", *some.parts[-5:])),
    "decimal_number": StateKind(lambda: decimal.Decimal("1.5"), lambda some: some / 7 + 1),
    "fraction": StateKind(lambda: fractions.Fraction(1, 3), lambda some: some / 7 + 1),
    "uuid": StateKind(lambda: uuid.UUID(int=7), lambda some: uuid.UUID(int=some.int * 3 % 2**127)),
    "own_float": StateKind(lambda: Amount(1.5), lambda some: Amount(some * 1.25)),
    "own_dict": StateKind(lambda: OwnDict(a=1), in_place(_more_pages), lambda some: (dict(some), getattr(some, "pages", 0))),
    "own_list": StateKind(lambda: OwnList([1]), in_place(_more_lines), lambda some: (list(some), getattr(some, "pages", 0))),
    "python_random": StateKind(lambda: random.Random(3), in_place(lambda some: some.random()), lambda some: some.getstate()),
    "closure": StateKind(_counting, in_place(_call), lambda some: (some.calls, some.__closure__[0].cell_contents)),
    "partial": StateKind(lambda: functools.partial(_one_more, [0]), in_place(lambda some: some()), lambda some: some.args),
    "bound_method": StateKind(
        lambda: OwnList([0]).append, in_place(lambda some: some(len(some.__self__))), lambda some: list(some.__self__)
    ),
    "class_attribute": StateKind(Thing, in_place(_count_on_class), lambda some: type(some).made),
    "local_classes": StateKind(
        _of_two_calls, in_place(_count_on_both), lambda some: (type(some[0]).made, some[1].made)
    ),
    "speaking": StateKind(Speaking, in_place(_one_step), lambda some: some.steps),
    "lazy": StateKind(Lazy, in_place(_one_step), lambda some: (some.steps, Lazy.asked)),
    "proxies": StateKind(
        lambda: {"more": [Proxy(), Proxy()]},
        in_place(lambda some: _one_step(some["more"][-1])),
        lambda some: (some["more"][-1].steps, Proxy.loaded),
    ),
    "environment": StateKind(
        lambda: os.environ.update(EPOCHS_SEEN="0"),
        in_place(lambda some: os.environ.update(EPOCHS_SEEN=f"{int(os.environ['EPOCHS_SEEN']) + 1}")),
        lambda some: os.environ["EPOCHS_SEEN"],
    ),
    "count_iterator": StateKind(lambda: itertools.count(3, 5), in_place(peeked), repr),
    "list_iterator": StateKind(lambda: iter(range(999)), in_place(peeked), lambda some: some.__reduce__()[-1]),
    "cycled_iterator": StateKind(
        lambda: itertools.cycle("abcde"),
        in_place(peeked),
        lambda some: (some.__reduce__()[2], some.__reduce__()[1][0].__length_hint__()),
    ),
    "own_generator": StateKind(_numbers, in_place(peeked), lambda some: some.gi_frame.f_locals["number"], named=True),
    "new_default_dict": StateKind(lambda: None, _new_groups),
    "full_buffer": StateKind(lambda: deque(((n, [n]) for n in range(40)), maxlen=40), in_place(_drop_oldest)),
    "shifting_list": StateKind(lambda: [(n, [n]) for n in range(40)], in_place(_drop_oldest)),
    "new_deque": StateKind(lambda: None, lambda some: deque([0], maxlen=4) if some is None else _replayed(some)),
    "new_own_list": StateKind(lambda: None, lambda some: OwnList([*(some or ()), 1]), named=True),
    "grown_instances": StateKind(lambda: [Thing()], in_place(lambda some: some.append(Thing(len(some)))), named=True),
    "set_of_objects": StateKind(lambda: {Thing()}, in_place(lambda some: some.add(Thing(len(some)))), len, named=True),
}  # fmt: skip
"""Kinds that need no package, by the names under which they are held."""


def look_at(kind: StateKind, state: Any) -> str:
    """What can be seen of a state, in a few letters."""
    return hashlib.sha256(repr(kind.look(state)).encode()).hexdigest()[:12]


class Held:
    """Holds states as its attributes."""


def fill(holder: Any, kinds: dict[str, StateKind], names: Sequence[str]) -> None:
    """What a program does when it starts."""
    for name in names:
        setattr(holder, name, kinds[name].make())


def begin_epoch(holder: Any, kinds: dict[str, StateKind], names: Sequence[str]) -> None:
    """What a program does where an epoch begins."""
    fill(holder, kinds, [name for name in names if kinds[name].every_epoch])


def change(holder: Any, kinds: dict[str, StateKind], names: Sequence[str]) -> dict[str, str]:
    """What a program does in each step; what can be seen then, by kind."""
    seen = {}
    for name in names:
        kind = kinds[name]
        setattr(holder, name, kind.change(getattr(holder, name)))
        seen[name] = look_at(kind, getattr(holder, name))
    return seen
