"""How often an iterator was asked is known, whoever asks it, and nothing is kept alive or piles up for it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from weakref import ref

from backprop_core.loop.asked_iterators import AskedIterators, passes_batches_through
from backprop_core.loop.asked_state import looks_of


def numbers(first: int) -> Iterator[int]:
    while True:
        yield first
        first += 1


def test_every_way_of_asking_is_counted() -> None:
    """`next`, a loop that is left, and a consumer in C; loops that are over leave no counter behind."""
    asked, it = AskedIterators(), numbers(0)
    assert next(asked.ask(it)) == 0
    for _ in range(50):
        assert len([*zip(range(2), asked.counted(it), strict=False)]) == 2
    record = asked.of(it)
    assert record.asks == 1 + 50 * 2
    assert next(it) == 101
    assert len(record.counters) <= 2


def test_what_is_no_iterator_of_pythons_is_left_alone() -> None:
    """A list, and an object of the script's own, come back as they were given."""

    class Own:
        def __next__(self) -> int:
            return 1

    asked, own, items = AskedIterators(), Own(), [1, 2]
    assert asked.ask(own) is own
    assert asked.counted(items) is items
    assert asked.known(own) is None


def test_iterators_are_not_kept_alive() -> None:
    """A generator is known weakly; iterators that cannot be are dropped once nobody else has them."""
    asked, it = AskedIterators(), numbers(0)
    next(asked.ask(it))
    gone = ref(it)
    del it
    gc.collect()
    assert gone() is None
    for _ in range(1000):
        next(asked.ask(iter([1])))
    assert len(asked._held) < 100


def test_generators_that_only_pass_batches_on_are_told_from_those_that_hold_something() -> None:
    """Only the first kind may begin in the middle of its interrupted pass."""

    def passing(loader: list[int]) -> Iterator[int]:
        while True:
            yield from loader

    def counting(loader: list[int]) -> Iterator[int]:
        seen = 0
        for one in loader:
            seen += one
            yield seen

    assert passes_batches_through(passing([1]))
    assert not passes_batches_through(counting([1]))
    assert not passes_batches_through(numbers(0))


def test_looks_change_when_an_iterator_is_asked_and_only_then() -> None:
    """What is compared at checkpoints is the same for one that nobody asked, and another behind each item."""
    for it in (numbers(5), iter([1, 2, 3]), enumerate(numbers(3))):
        before = looks_of(it)
        assert looks_of(it) == before
        next(it)
        assert looks_of(it) != before
