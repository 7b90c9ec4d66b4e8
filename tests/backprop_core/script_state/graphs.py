"""Graphs of objects made after a list of orders, the same ones in any process, and a picture of one that can be compared."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import itertools
import json
import random
import types
import uuid
from collections import ChainMap, OrderedDict, deque
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.codec import capture, rebuild
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.script_state.attributes import attributes_of


class Thing:
    """An instance with a dictionary."""


class Slotted:
    """An instance without one."""

    __slots__ = ("a", "b")


class Amount(float):
    """A number with a class of its own."""


class Bits(enum.Flag):
    A = 1
    B = 2
    C = 4


class Pair(NamedTuple):
    left: Any
    right: Any


class Grown(list[Any]):
    """A list with attributes."""


def initial() -> dict[str, Any]:
    """What a script has before it trains."""
    thing, slotted, grown = Thing(), Slotted(), Grown([1, 2])
    shared = [1.5, "x"]
    thing.items, thing.other, thing.count = shared, slotted, 0  # type: ignore[attr-defined]
    slotted.a, slotted.b = {"k": shared}, -0.0  # type: ignore[attr-defined]
    grown.note = deque([1, 2, 3], maxlen=4)  # type: ignore[attr-defined]
    looped: list[Any] = [thing]
    looped.append(looped)
    return {
        "thing": thing,
        "slotted": slotted,
        "grown": grown,
        "looped": looped,
        "numbers": np.arange(4.0),
        "more": {"w": np.ones((2, 2), np.float32), "deep": [[np.zeros(3)]]},
        "pair": Pair(shared, (1, 2.5)),
        "random": random.Random(3),
        "generator": np.random.default_rng(4),
        "old": np.random.RandomState(5),
        "seen": {1, 2},
        "ordered": OrderedDict(a=1, b=[2]),
        "raw": bytearray(b"abc"),
        "nothing": None,
        "space": types.SimpleNamespace(n=0, shared=shared),
        "chain": ChainMap({"a": 1}, {"b": [2]}),
        "numbered": itertools.count(3, 5),
        "going": iter(range(1000)),
        "bound": Grown([5]).append,
        "given": functools.partial(max, [1, 2]),
    }


RANGE_ITERATOR = type(iter(range(1)))
OBJECTS = (Thing, Slotted, Grown, types.SimpleNamespace, ChainMap)
VALUES = [0, 1, -1, -2, 1.5, -0.0, 0.0, float("inf"), "text", b"bytes", None, True, 2**70, 1j]
VALUES += [
    decimal.Decimal("1.5"),
    fractions.Fraction(1, 3),
    Amount(2.5),
    Bits.A | Bits.C,
    datetime.date(2024, 1, 2),
]
VALUES += [datetime.datetime(2024, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")), uuid.UUID(int=7)]


_UNCHANGING = (int, float, str, bytes, complex, type(None), *(type(one) for one in VALUES))


def _fresh(number: int) -> Any:
    makers = [
        lambda: [number],
        lambda: {"n": number, 3: [number]},
        lambda: {number, 7},
        lambda: deque([number], 5),
        lambda: np.full(3, float(number)),
        lambda: Pair(number, [number]),
        lambda: (number, [number]),
        lambda: random.Random(number),
        lambda: np.random.default_rng(number),
        lambda: bytearray([number % 256]),
    ]
    return makers[number % len(makers)]()


def _objects(names: dict[str, Any]) -> list[Any]:
    """All that can be changed, in an order that depends on the graph alone."""
    found: list[Any] = [names]
    queue, seen = deque([dict(sorted(names.items()))]), {id(names)}
    while queue:
        for one in _inside(queue.popleft()):
            if id(one) not in seen:
                seen.add(id(one))
                found.append(one)
                queue.append(one)
    return found


def _inside(value: Any) -> list[Any]:
    inner: list[Any] = []
    if isinstance(value, list | tuple | deque):
        inner = list(value)
    elif isinstance(value, dict):
        inner = list(value.values())
    if isinstance(value, OBJECTS):
        inner += [one for _, one in sorted(attributes_of(value), key=lambda pair: pair[0])]
    elif isinstance(value, types.BuiltinMethodType):
        inner = [value.__self__]
    elif isinstance(value, functools.partial):
        inner = list(value.args)
    found: list[Any] = []
    for one in inner:  # a tuple has no identity of its own
        found += _inside(one) if isinstance(one, tuple) else [one]
    return [one for one in found if not isinstance(one, _UNCHANGING)]


def change(names: dict[str, Any], orders: list[tuple[int, int, int]]) -> None:
    """Carry out orders: each says which object, what to do, and a number."""
    for which, what, number in orders:
        objects = _objects(names)
        target = objects[which % len(objects)]
        choices: list[Any] = [VALUES[number % len(VALUES)], _fresh(number), objects[number % len(objects)]]
        new = choices[what % 3]
        if new is names or (isinstance(new, dict) and new is names):
            new = number
        _change_one(target, what // 3, number, new, objects)


def _change_one(target: Any, what: int, number: int, new: Any, objects: list[Any]) -> None:
    if isinstance(target, np.ndarray):
        target += number
    elif isinstance(target, random.Random | np.random.Generator | np.random.RandomState):
        target.random()
    elif isinstance(target, list | deque):
        _change_sequence(target, what, number, new)
    elif isinstance(target, dict):
        keys = sorted(target, key=repr)
        if what % 3 == 0 and keys and len(keys) > 1:
            del target[keys[number % len(keys)]]
        elif what % 3 == 1 and keys:
            target[keys[number % len(keys)]] = new
        else:
            target[f"key{number}"] = new
    elif isinstance(target, set):
        target.symmetric_difference_update({number})
    elif isinstance(target, bytearray):
        target.append(number % 256)
    elif isinstance(target, itertools.count | RANGE_ITERATOR):
        next(target, None)
    elif isinstance(target, Thing | types.SimpleNamespace):
        _change_thing(target, what, number, new)
    elif isinstance(target, Slotted):
        setattr(target, "ab"[number % 2], new)


def _change_sequence(target: Any, what: int, number: int, new: Any) -> None:
    if what % 4 == 0 and target:
        target.pop()
    elif what % 4 == 1 and target:
        target[number % len(target)] = new
    elif what % 4 == 2:
        target.append(new)
    else:
        target.clear()


def _change_thing(target: Any, what: int, number: int, new: Any) -> None:
    names = sorted(vars(target))
    if what % 3 == 0 and names:
        delattr(target, names[number % len(names)])
    else:
        setattr(target, f"name{number % 5}", new)


def picture(value: Any, known: dict[int, int] | None = None) -> Any:  # noqa: PLR0911 - one for each kind
    """All of a graph: types, bits, order, and which objects are the same."""
    known = {} if known is None else known
    if value is None or isinstance(value, bool | int | str | bytes | complex):
        return [type(value).__name__, repr(value)]
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, _UNCHANGING):
        return [type(value).__name__, repr(value)]
    if isinstance(value, itertools.count):
        return ["count", repr(value)]
    if isinstance(value, RANGE_ITERATOR):
        return ["range", value.__length_hint__()]
    if isinstance(value, tuple):
        return [type(value).__name__, [picture(one, known) for one in value]]
    if id(value) in known:
        return ["again", known[id(value)]]
    known[id(value)] = len(known)
    if isinstance(value, np.ndarray):
        return ["array", str(value.dtype), value.shape, value.tobytes().hex()]
    if isinstance(value, random.Random):
        return ["random", value.getstate()]
    if isinstance(value, np.random.Generator):
        return ["generator", str(value.bit_generator.state)]
    if isinstance(value, np.random.RandomState):
        return ["old generator", str(value.get_state())]
    if isinstance(value, set):
        return ["set", sorted(map(repr, value))]
    if isinstance(value, bytearray):
        return ["bytearray", value.hex()]
    drawn: list[Any] = [type(value).__name__, getattr(value, "maxlen", None)]
    if isinstance(value, dict):
        drawn.append([[picture(key, known), picture(one, known)] for key, one in value.items()])
    elif isinstance(value, list | deque):
        drawn.append([picture(one, known) for one in value])
    elif isinstance(value, types.BuiltinMethodType | functools.partial):
        drawn.append([picture(one, known) for one in _inside(value)])
    if isinstance(value, OBJECTS):
        drawn.append(
            [
                [name, picture(one, known)]
                for name, one in sorted(attributes_of(value), key=lambda pair: pair[0])
            ]
        )
    return drawn


def through_a_file(state: Any, *more: Translator) -> Any:
    """What a checkpoint gives back of `state`: JSON and bytes, nothing else; arrays of numpy and those that `more` know."""
    translators = [*more, NumpyTranslator()]
    taken = capture({"script": state}, translators).objects["script"]
    arrays = {name: memoryview(bytearray(dense.view())) for name, dense in taken.arrays.items()}
    return rebuild(json.loads(json.dumps(taken.tree)), arrays, translators)
