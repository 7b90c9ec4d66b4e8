"""A generator that the script makes when it first needs it is made again by a process that has not come there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.loop.asked_iterators import asked_iterators
from backprop_core.loop.asked_state import AskedState
from backprop_core.loop.generator_makers import made_again, maker_of
from backprop_core.script_state.namespace import DictNamespace


class Feed:
    def __init__(self) -> None:
        self.batches: Any = None

    def numbers(self) -> Iterator[int]:
        yield from range(10)

    def with_argument(self, first: int) -> Iterator[int]:
        yield from range(first, 10)

    @staticmethod
    def of_nothing() -> Iterator[int]:
        yield 0

    def no_generator(self) -> int:
        return 1


def numbers() -> Iterator[int]:
    yield from range(10)


def _space(**variables: Any) -> list[DictNamespace]:
    return [DictNamespace({"numbers": numbers, **variables}, "main")]


def test_it_is_asked_until_it_is_where_it_was() -> None:
    """In an attribute, made by a method of the object; in a variable, made by a function beside it."""
    for variable in ("feed", "batches"):
        held = []
        for resumes in (False, True):
            feed = Feed()
            variables: dict[str, Any] = {"numbers": numbers, "feed": feed, "batches": None}
            space, state = [DictNamespace(variables, "main")], AskedState([], [NumpyTranslator()])
            state.baseline(space)
            if resumes:
                assert state.restore(held, space) == []
            else:
                made = feed.numbers() if variable == "feed" else numbers()
                (vars(feed) if variable == "feed" else variables)["batches"] = made
                for _ in range(4):
                    next(asked_iterators().ask(made))
                held = state.capture(space)
        assert next(feed.batches if variable == "feed" else variables["batches"]) == 4


def test_only_a_maker_that_is_sure_is_named() -> None:
    """One with other arguments, of another object, or a function that is not there, is not called."""
    feed, other = Feed(), Feed()
    for generator, maker in [
        (feed.numbers(), "numbers"),
        (other.numbers(), ""),
        (feed.with_argument(2), ""),
        (Feed.of_nothing(), ""),
        (numbers(), ""),
        (iter([1]), ""),
    ]:
        assert maker_of("main.feed.batches", generator, _space(feed=feed)) == maker, generator
    assert maker_of("main.batches", numbers(), _space(batches=None)) == "numbers"
    assert maker_of("main.batches", feed.numbers(), _space(batches=None)) == ""
    assert maker_of("main.feeds[0].batches", feed.numbers(), _space(feeds=[feed])) == ""
    for name in ("gone", "no_generator"):
        assert made_again("main.feed.batches", name, _space(feed=feed)) is None
    assert feed.batches is None
