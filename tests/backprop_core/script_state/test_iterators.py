"""Iterators that a script holds: those of Python's own come to their place, all others are named when they have moved."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backprop_core.script_state import iterators
from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import ScriptState
from tests.backprop_core.script_state.graphs import through_a_file

_ITEMS = [10, 20, 30, 40, 50, 60, 70]
PLACEABLE: dict[str, Callable[[], Iterator[Any]]] = {
    "list": lambda: iter(_ITEMS),
    "tuple": lambda: iter(tuple(_ITEMS)),
    "text": lambda: iter("abcdefg"),
    "range": lambda: iter(range(1 << 40)),
    "dict": lambda: iter(dict.fromkeys(_ITEMS)),
    "items": lambda: iter(dict.fromkeys(_ITEMS, 1).items()),
    "reversed": lambda: reversed(_ITEMS),
    "count": lambda: itertools.count(5, 3),
    "count of floats": lambda: itertools.count(0.5, 0.25),
    "cycle": lambda: itertools.cycle("abc"),
    "enumerate": lambda: enumerate(_ITEMS),
    "zip": lambda: zip(_ITEMS, range(99), strict=False),
}


class Holder:
    made = 0

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator


def _script(make: Callable[[], Any]) -> tuple[Holder, ScriptState]:
    holder = Holder(make())
    state = ScriptState([DictNamespace({"holder": holder}, "main")])
    state.baseline()
    return holder, state


@pytest.mark.parametrize(
    "kind", [kind for kind in PLACEABLE if kind != "cycle" or sys.version_info < (3, 14)]
)
@pytest.mark.parametrize("asked", [1, 4, 7])
def test_it_goes_on_where_it_was(kind: str, asked: int) -> None:
    """Asked some times, through a file, in a process that has asked none; the end of it counts as a place, too."""
    holder, state = _script(PLACEABLE[kind])
    for _ in range(asked):
        next(holder.iterator)
    saved = through_a_file(state.changed())
    assert not state.unkept()
    again, state = _script(PLACEABLE[kind])
    assert not state.restore(saved).missing
    assert list(itertools.islice(again.iterator, 5)) == list(itertools.islice(holder.iterator, 5))


def _generator() -> Iterator[int]:
    yield from _ITEMS


@pytest.mark.parametrize(
    "make", [_generator, lambda: map(str, _ITEMS), lambda: iter({1, 2, 3}), lambda: enumerate(_generator())]
)
def test_what_only_the_script_can_bring_there_is_named(make: Callable[[], Any]) -> None:
    """Not before it has moved, and with what to do."""
    holder, state = _script(make)
    state.changed()
    assert not state.unkept()
    next(holder.iterator)
    state.changed()
    (named,) = state.unkept()
    assert named.name == "main.holder.iterator"
    assert "skip as many on a resume" in named.what_to_do


def test_one_that_does_not_tell_its_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python 3.14 on `itertools.cycle` does not tell whether it has been asked: a line says so."""
    told = iterators._reduced
    monkeypatch.setattr(
        iterators, "_reduced", lambda one: None if type(one) is itertools.cycle else told(one)
    )
    holder, state = _script(lambda: itertools.cycle("abc"))
    next(holder.iterator)
    saved = through_a_file(state.changed())
    (named,) = state.unkept()
    assert named.name == "main.holder.iterator"
    assert not named.certain
    again, state = _script(lambda: itertools.cycle("abc"))
    state.restore(saved)
    assert next(again.iterator) == "a"


def test_a_class_of_the_script_s_keeps_its_values() -> None:
    """A class attribute, changed through an object, is there again, and one that vanished is gone."""
    _, state = _script(lambda: None)
    Holder.made, Holder.later = 7, [1]  # type: ignore[attr-defined]
    saved = through_a_file(state.changed())
    Holder.made = 0
    del Holder.later  # type: ignore[attr-defined]
    _, state = _script(lambda: None)
    try:
        assert not state.restore(saved).missing
        assert (Holder.made, Holder.later) == (7, [1])  # type: ignore[attr-defined]
    finally:
        Holder.made = 0
        if "later" in vars(Holder):
            del Holder.later  # type: ignore[attr-defined]
