"""What a script's own `for` goes over: how long it is, which loaders are in it, and how to begin it in the middle.

Python's iterators say what is inside them by `__reduce__`, so `enumerate(loader)` or `zip(range(n), loader)` begin in the
middle by index; a progress bar is told where it stands. What nobody can look into (a generator, a file) gives its first
items once more, and they are thrown away.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Protocol

from backprop_core.loop.asked_iterators import is_counted, uncounted


class Readings(Protocol):
    """Knows loaders, and iterators over loaders, that a framework can begin in the middle."""

    def begin(self, source: Any, skip: int) -> Iterable[Any] | None:
        """An iterator that stands behind `skip` items of `source`; None where it is nothing that is known here."""
        ...

    def ask(self, source: Any, skip: int) -> Iterable[Any] | None:
        """`source`, which can only be asked for items, behind its first `skip`; None where it is of another kind."""
        ...


def length_of(source: Any) -> int | None:
    """Items that are left in `source`, where it knows without being asked for them."""
    inner = _inner(source)
    if inner is not None:
        return next((n for one in inner if (n := length_of(one)) is not None), None)
    if type(source).__module__ in ("builtins", "types") and hasattr(type(source), "__next__"):
        hint = operator.length_hint(source, -1)
        return hint if hint >= 0 else None
    try:
        return len(source)
    except (
        Exception
    ):  # an iterable dataset, a generator, an object whose __len__ asks for more than there is yet
        return None


def _inner(source: Any) -> list[Any] | None:
    kind = type(source)
    if kind is enumerate or kind is zip or kind is map:
        arguments = source.__reduce__()[1]
        if kind is enumerate:
            return [arguments[0]]
        return list(arguments if kind is zip else arguments[1:])
    if is_progress_bar(source):
        return None if source.iterable is None else [source.iterable]
    return None


def is_progress_bar(source: Any) -> bool:
    """Whether it is one of tqdm's bars."""
    return any(kind.__module__.partition(".")[0] == "tqdm" for kind in type(source).__mro__) and hasattr(
        source, "iterable"
    )


def items_behind(source: Any, skip: int, readings: Readings) -> Iterable[Any]:
    """`source` as it is behind its first `skip` items; with 0, only its loaders are begun as `readings` begins them."""
    known = readings.begin(source, skip)
    if known is not None:
        return known
    nested = _nested_behind(source, skip, readings)
    if nested is not None:
        return nested
    asked = readings.ask(generator_of(source), skip)
    if asked is not None:
        return asked
    same: Iterable[Any] = source
    return _plain_behind(source, skip) if skip else same


def generator_of(source: Any) -> Any:
    """The generator that a `for` goes over, of which nothing has run yet, where `__iter__` is written as one."""
    if is_progress_bar(source) or not inspect.isgeneratorfunction(getattr(type(source), "__iter__", None)):
        return source
    return iter(source)


def counts_of(source: Any) -> tuple[int, int] | None:
    """The first number and the distance of a range, or of the one that a progress bar goes over; None for all else."""
    if is_progress_bar(source):
        source = source.iterable
    return (source.start, source.step) if type(source) is range else None


def counting_from(source: Any, start: int) -> Any:
    """The same as `source`, of which `counts_of` knows something, with another first number and the same end."""
    if not is_progress_bar(source):
        return range(start, source.stop, source.step)
    whole = source.iterable
    source.initial = source.n = source.last_print_n = max(0, source.n - (whole.start - start) // whole.step)
    source.iterable = counting_from(whole, start)
    return source


def _nested_behind(source: Any, skip: int, readings: Readings) -> Iterable[Any] | None:
    kind = type(source)
    if kind is enumerate:
        inner, start = source.__reduce__()[1]
        return enumerate(items_behind(inner, skip, readings), start + skip)
    if kind is zip:
        _, iterators, *strict = source.__reduce__()
        return zip(*[items_behind(one, skip, readings) for one in iterators], strict=bool(strict))
    if is_counted(source):
        return items_behind(uncounted(source), skip, readings)
    if kind is map:
        function, *iterators = source.__reduce__()[1]
        return map(function, *[items_behind(one, skip, readings) for one in iterators])
    if is_progress_bar(source) and source.iterable is not None:
        source.iterable = items_behind(source.iterable, skip, readings)
        if skip:
            source.initial = source.n = source.last_print_n = source.n + skip
        bar: Iterable[Any] = source
        return bar
    return None


def _plain_behind(source: Any, skip: int) -> Iterable[Any]:
    if isinstance(source, range):
        return source[skip:]
    iterator = iter(source)
    move: Callable[[int], None] | None = getattr(iterator, "__setstate__", None)
    if type(source) in (list, tuple, str, bytes) and move is not None:
        move(min(skip, len(source)))
        rest: Iterable[Any] = iterator
        return rest
    if type(iterator).__name__ == "range_iterator":
        left = operator.length_hint(iterator)
        whole: range = iterator.__reduce__()[1][
            0
        ]  # the range that is left up to 3.12, the whole one from there on
        return whole[len(whole) - left :][skip:]
    next(islice(iterator, skip - 1, skip), None)
    replayed: Iterable[Any] = iterator
    return replayed
