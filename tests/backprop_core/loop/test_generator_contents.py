"""A generator that is asked again holds what the first held, whatever it has drawn on the way."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.loop.generator_contents import GeneratorContents
from backprop_core.script_state.kinds import Kinds

CONTENTS = GeneratorContents(Kinds((), [NumpyTranslator()]))


def by_array() -> Iterator[Any]:
    while True:
        order = np.random.permutation(12)
        for first in range(0, 12, 3):
            yield order[first : first + 3].tolist()


def by_list() -> Iterator[Any]:
    order = list(range(12))
    while True:
        random.shuffle(order)
        yield from order


def on_the_stack() -> Iterator[Any]:
    while True:
        for one in np.random.permutation(6).tolist():
            yield one
        for one in np.random.permutation(6):
            yield int(one)
        for place, rows in enumerate(tuple(np.random.permutation(12).reshape(4, 3))):
            yield place, rows.tolist()


def of_another() -> Iterator[Any]:
    for number, part in enumerate(by_array()):
        yield part, number


def of_a_generator_in_a_variable() -> Iterator[Any]:
    inner, draws = by_list(), {"seen": 0.0}
    while True:
        draws["seen"] = random.random()
        yield next(inner), draws["seen"]
        yield draws["seen"]


def with_numbers(low: float, high: float) -> Iterator[Any]:
    level = (low, "a")
    while True:
        level = (random.uniform(low, high), "b")
        yield 1
        yield level


@pytest.mark.parametrize(
    "make",
    [by_array, by_list, on_the_stack, of_another, of_a_generator_in_a_variable, lambda: with_numbers(0, 1)],
    ids=lambda make: make.__name__,
)
@pytest.mark.parametrize("asks", [1, 4, 7, 14])
def test_it_gives_what_the_first_would_have_given(make: Callable[[], Iterator[Any]], asks: int) -> None:
    """Asked as often under other random numbers, it is put right, and both go on alike under the same."""
    first, again = make(), make()
    random.seed(1), np.random.seed(1)
    given = [next(first) for _ in range(asks)]
    saved, digest = copy.deepcopy(CONTENTS.taken(first)), CONTENTS.digest(first)
    random.seed(2), np.random.seed(2)
    assert [next(again) for _ in range(asks)] != given or asks == 1
    CONTENTS.put(again, saved)
    assert CONTENTS.digest(again) == digest
    random.seed(3), np.random.seed(3)
    goes_on = [next(first) for _ in range(12)]
    random.seed(3), np.random.seed(3)
    assert [next(again) for _ in range(12)] == goes_on


def test_another_place_is_left_alone() -> None:
    """One that stands elsewhere in its code, or asks other generators, keeps what it has."""
    first, again = on_the_stack(), on_the_stack()
    next(first)
    for _ in range(8):
        next(again)
    before = CONTENTS.digest(again)
    CONTENTS.put(again, copy.deepcopy(CONTENTS.taken(first)))
    assert CONTENTS.digest(again) == before
    CONTENTS.put(of_another(), copy.deepcopy(CONTENTS.taken(first)))


def test_what_it_is_given_and_what_is_large_is_not_stored() -> None:
    """A data set among its arguments, or of more than 8 MB, is compared and stays where it is."""

    def deal(data: Any, size: int = 2) -> Iterator[Any]:
        large, held = np.zeros(2_000_000), [object()]
        while True:
            order = np.random.permutation(len(data))
            yield data[order[:size]], large[0], held

    generator = deal(np.arange(5))
    next(generator)
    (taken,) = CONTENTS.taken(generator)
    assert taken["names"] == {} or set(taken["names"]) == {"order"}
    assert "data" not in taken["names"]
    assert "large" not in taken["names"]
    before = CONTENTS.digest(generator)
    generator.gi_frame.f_locals["large"][0] = 1.0
    assert CONTENTS.digest(generator) != before
