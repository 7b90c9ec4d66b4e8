"""Kinds of state in functions and in objects of the standard library; copied beside a program like `state_kinds.plain`."""

from __future__ import annotations

import contextvars
import ctypes
import functools
import io
import multiprocessing
import queue
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

from .plain import StateKind, in_place
from .things import Thing

NAMED = frozenset({"cached_bounded", "simple_queue", "weak_values", "weak_keys", "set_of_sets"})
"""Of the kinds below those that cannot be kept, so that they have to be named."""


class Base:
    __slots__ = ("__hidden", "first")

    def __init__(self) -> None:
        self.first, self.__hidden = 0, [0]

    def grow(self) -> None:
        self.first += 1
        self.__hidden.append(self.first)

    def shown(self) -> Any:
        return self.first, self.__hidden


class Derived(Base):
    __slots__ = ("second",)

    def __init__(self) -> None:
        super().__init__()
        self.second = 0.5

    def grow(self) -> None:
        super().grow()
        self.second = self.second * 1.5 % 7


class Field:
    """A descriptor with a table of its own."""

    def __init__(self) -> None:
        self.values: dict[int, float] = {}

    def __get__(self, one: Any, kind: Any = None) -> Any:
        return self if one is None else self.values.get(0, 1.0)

    def __set__(self, one: Any, new: float) -> None:
        self.values[0] = new


class Described:
    field = Field()


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Counts the calls in a variable of its own."""
    calls = 0

    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return function(*args) + calls

    return inner


def remembers(seen: list[int] = [], *, named: dict[str, int] = {}) -> int:  # noqa: B006
    """In what its arguments are where they are not given."""
    seen.append(len(seen))
    named["n"] = named.get("n", 0) + len(seen)
    return named["n"]


class Methods:
    total = 0

    def remembers(self, seen: list[int] = []) -> int:  # noqa: B006
        seen.append(len(seen))
        return len(seen)

    @counted
    def is_counted(self) -> int:
        return 0

    @staticmethod
    @counted
    def stands_alone(number: int) -> int:
        return number

    @classmethod
    @counted
    def of_class(cls) -> int:
        return 0

    def step(self) -> None:
        self.total += self.remembers() + self.is_counted() + self.stands_alone(3) + self.of_class()


_source = random.Random(9)


@functools.cache
def drawn(index: int) -> float:
    return _source.random()


@functools.lru_cache(maxsize=64)
def cached_bounded(index: int) -> float:
    return _source.random()


class OwnRandom(random.Random):
    drawn = 0

    def random(self) -> float:
        self.drawn += 1
        return super().random()


class Pair(ctypes.Structure):
    _fields_ = (("count", ctypes.c_int), ("mean", ctypes.c_double))


def _grow(some: Any) -> None:
    some.count += 1
    some.mean += 1 / some.count


def _filled(some: Any) -> Any:
    some.put(1)
    return some


def _turn(some: Any) -> None:
    first = some.get()
    some.put(first * 3 % 101)
    some.put(first + 1)


def _weak_values() -> Any:
    held = [Thing(1), Thing(2)]
    return [held, weakref.WeakValueDictionary({"a": held[0]})]


def _point_elsewhere(some: Any) -> None:
    some[1]["ab"[len(some[1]) % 2]] = some[0][len(some[1]) % 2]
    some[0][0].number += 1


def _weak_keys() -> Any:
    held = [Thing(1), Thing(2)]
    return [held, weakref.WeakKeyDictionary({held[0]: 0})]


def _count_weakly(some: Any) -> None:
    for one in some[0]:
        some[1][one] = some[1].get(one, 0) + 1


def _local() -> Any:
    some = threading.local()
    some.count = 0
    return some


def _one_more(name: str) -> Callable[[Any], Any]:
    return in_place(lambda some: setattr(some, name, getattr(some, name) + 1))


def _written(some: Any) -> Any:
    some.write("a" if isinstance(some, io.StringIO) else b"a")
    return some


def _poke(some: Any) -> None:
    some[some[0] % 7 + 1] = (some[some[0] % 7 + 1] + some[0] + 1) % 256
    some[0] = (some[0] + 1) % 256


def _again(function: Callable[[int], float]) -> Callable[[Any], Any]:
    return in_place(lambda some: some.append(function(len(some) % 3)))


def _of_buffer(some: Any) -> Any:
    return some.getvalue(), some.tell()


def _of_queue(some: Any) -> Any:
    return list(some.queue)


_variable: contextvars.ContextVar[int] = contextvars.ContextVar("steps", default=0)

OF_GLOBALS: dict[str, StateKind] = {
    "default_argument": StateKind(lambda: 0, lambda some: some + remembers()),
    "cached": StateKind(list, _again(drawn)),
    "cached_bounded": StateKind(list, _again(cached_bounded), named=True),
}  # fmt: skip
"""What functions of a module keep, which are reached where globals are looked at."""
STANDARD: dict[str, StateKind] = {
    "slots_inherited": StateKind(
        Derived, in_place(lambda some: some.grow()), lambda some: (some.shown(), some.second)
    ),
    "descriptor": StateKind(
        Described, in_place(lambda some: setattr(some, "field", some.field * 1.5 % 7)), lambda some: some.field
    ),
    "state_of_methods": StateKind(Methods, in_place(lambda some: some.step()), lambda some: some.total),
    "queue": StateKind(lambda: _filled(queue.Queue()), in_place(_turn), _of_queue),
    "last_in_first_out": StateKind(lambda: _filled(queue.LifoQueue()), in_place(_turn), _of_queue),
    "priority_queue": StateKind(lambda: _filled(queue.PriorityQueue()), in_place(_turn), _of_queue),
    "simple_queue": StateKind(
        lambda: _filled(queue.SimpleQueue()), in_place(_turn), lambda some: some.qsize(), named=True
    ),
    "weak_values": StateKind(
        _weak_values, in_place(_point_elsewhere), lambda some: [(k, v.number) for k, v in some[1].items()], named=True
    ),
    "weak_keys": StateKind(_weak_keys, in_place(_count_weakly), lambda some: list(some[1].values()), named=True),
    "thread_local": StateKind(_local, _one_more("count"), lambda some: some.count),
    "context_variable": StateKind(
        lambda: _variable, in_place(lambda some: some.set(some.get() + 1)), lambda some: some.get()
    ),
    "text_in_memory": StateKind(
        lambda: _written(io.StringIO()), in_place(lambda some: some.write(str(some.tell()))), _of_buffer
    ),
    "bytes_in_memory": StateKind(
        lambda: _written(io.BytesIO()), in_place(lambda some: some.write(bytes([some.tell()]))), _of_buffer
    ),
    "memory_view": StateKind(lambda: memoryview(bytearray(8)), in_place(_poke), bytes),
    "c_number": StateKind(lambda: ctypes.c_int(1), _one_more("value"), lambda some: some.value),
    "c_structure": StateKind(Pair, in_place(_grow), lambda some: (some.count, some.mean)),
    "shared_number": StateKind(lambda: multiprocessing.Value("i", 0), _one_more("value"), lambda some: some.value),
    "unlocked_number": StateKind(
        lambda: multiprocessing.Value("i", 0, lock=False), _one_more("value"), lambda some: some.value
    ),
    "shared_numbers": StateKind(
        lambda: multiprocessing.Array("d", 3), in_place(lambda some: some.__setitem__(1, some[1] + 0.5)), list
    ),
    "own_random": StateKind(
        lambda: OwnRandom(3), in_place(lambda some: some.random()), lambda some: (some.getstate()[1][-1], some.drawn)
    ),
    "system_random": StateKind(random.SystemRandom, in_place(lambda some: some.random()), lambda some: 0),
    "nested_tuples": StateKind(lambda: None, lambda some: (0 if some is None else some[0] + 1, some)),
    "set_of_tuples": StateKind(lambda: {(0, "a")}, in_place(lambda some: some.add((len(some), "b"))), sorted),
    "set_of_sets": StateKind(
        lambda: {frozenset([0])}, in_place(lambda some: some.add(frozenset([len(some)]))), len, named=True
    ),
    "odd_text": StateKind(lambda: ["\ud800"], in_place(lambda some: some.append("\udfff\x00" * len(some)))),
    "huge_number": StateKind(lambda: 3**9000, lambda some: some * 7 + 1, lambda some: some % 10**9),
    "odd_numbers": StateKind(
        lambda: [float("nan"), -0.0], in_place(lambda some: some.extend([float("-inf"), -0.0, 5e-324]))
    ),
}  # fmt: skip
"""By the names under which they are held."""
