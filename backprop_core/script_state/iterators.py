"""Iterators that a script holds: whether one has moved, and those of Python's own that can be brought to a place again.

To ask an iterator over a list, a range or a dictionary, or `itertools.count` and `cycle`, runs nothing of the script's. A
generator of the script's, or `map` over one of its functions, has no place that could be set from outside.
"""

from __future__ import annotations

import ast
import itertools
import sys
import warnings
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final

from backprop_core.script_state.attributes import classes_of, type_text

_MOST_ASKED: Final = 1 << 22
_COUNT: Final = itertools.count
_RANGES: Final = (type(iter(range(0))), type(iter(range(1 << 70))))
_LISTS: Final[tuple[type, ...]] = (
    type(iter([])),
    type(iter(())),
    type(iter("")),
    type(iter("\u0100")),
    type(iter(b"")),
)
_SIZED: Final[tuple[type, ...]] = (
    *_RANGES,
    type(iter({})),
    type(iter({}.values())),
    type(iter({}.items())),
    type(reversed([])),
    type(reversed({})),
    type(iter(bytearray())),
)
_SETS: Final[tuple[type, ...]] = (type(iter(set())),)
"""Another process may have another order."""
_AROUND: Final = (enumerate, zip, map, filter, reversed)
_TOOLS: Final = tuple(kind for kind in vars(itertools).values() if isinstance(kind, type))
_WARNS: Final = sys.version_info >= (3, 12)
"""Python 3.12 and 3.13 warn where one of `_TOOLS` is asked what it is: 3.14 does not tell."""
GENERATORS: Final = (GeneratorType, CoroutineType, AsyncGeneratorType)
ITERATORS: Final = (*_LISTS, *_SIZED, *_SETS, *_AROUND, *_TOOLS, *GENERATORS)


_OF_A_LOADER: Final = "torch.utils.data.dataloader._BaseDataLoaderIter"


def is_of_a_loader(kind: type) -> bool:
    """Whether instances of `kind` are torch's iterators over a loader."""
    return any(type_text(one) == _OF_A_LOADER for one in classes_of(kind))


def place_of(value: Any) -> Any:
    """Where an iterator stands, as plain values that differ once it has moved; None where that cannot be seen."""
    kind = type(value)
    if kind in GENERATORS:
        return _frame_of(value)
    if is_of_a_loader(kind):
        return ["given", value._num_yielded]
    seen = next((look for kinds, look in _LOOKS if kind in kinds), _parts)
    return seen(value)


def _frame_of(generator: Any) -> Any:
    frame = getattr(generator, "gi_frame", None) or getattr(generator, "cr_frame", None)
    if frame is None:
        return ["over"]
    if generator.gi_running if type(generator) is GeneratorType else True:
        return ["running"]
    seen = {
        name: value for name, value in frame.f_locals.items() if type(value) in (int, float, str, bool, bytes)
    }
    inner = [
        place_of(one) for one in frame.f_locals.values() if type(one) in ITERATORS and one is not generator
    ]
    return ["frame", frame.f_lasti, repr(sorted(seen.items())), repr(inner)]


def _parts(value: Any) -> Any:
    """Of iterators around others: what they say of themselves, and where the inner ones stand."""
    made = _reduced(value)
    return None if made is None else ["parts", *[_part(one) for one in made[1:]]]


def _reduced(value: Any) -> tuple[Any, ...] | None:
    """What an iterator says of itself; None where it says nothing: those of itertools from Python 3.14 on."""
    try:
        if type(value) not in _TOOLS or not _WARNS:
            return value.__reduce__()  # type: ignore[no-any-return]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return value.__reduce__()  # type: ignore[no-any-return]
    except TypeError:
        return None


def _part(one: Any) -> Any:
    if type(one) is tuple:
        return [_part(inner) for inner in one]
    if type(one) in ITERATORS:
        return place_of(one)
    if type(one) in (int, bool, type(None)):
        return one
    return ["length", len(one)] if type(one) in (list, str, bytes) else ["a", type_text(type(one))]


_LOOKS: Final[tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...]] = (
    (_LISTS, lambda value: ["at", *value.__reduce__()[2:]]),
    ((*_SIZED, *_SETS), lambda value: ["left", value.__length_hint__()]),
    ((_COUNT,), lambda value: ["count", repr(value)]),
)


def can_be_asked(value: Any) -> bool:
    """Whether to ask it for items runs nothing of the script's."""
    kind = type(value)
    if kind in _LISTS or kind in _SIZED or kind is _COUNT:
        return True
    if kind in (enumerate, zip, itertools.cycle):
        made = _reduced(value)
        return made is not None and all(can_be_asked(one) for one in _inner(made[1]))
    return False


def _inner(parts: Any) -> list[Any]:
    return [one for one in parts if type(one) not in (int, bool, type(None), list, str)]


def bring_to(value: Any, place: Any) -> str:
    """Bring an iterator to a place; why that did not work, as half a sentence, or nothing."""
    if not can_be_asked(value):
        return "its position cannot be set"
    if type(value) in _LISTS and len(place) > 1 and place[1] is not None:
        value.__setstate__(place[1])
    elif type(value) is _COUNT:
        _count_on(value, place)
    else:
        _ask(value, lambda: place_of(value) == place)
    return "" if place_of(value) == place else "it does not reach its earlier position"


def _count_on(value: Any, place: Any) -> None:
    now, then = (_numbers(repr(value)), _numbers(place[1]))
    step = then[1] if len(then) > 1 else 1
    if (
        all(type(one) is int for one in (*now, *then))
        and step
        and 0 <= (then[0] - now[0]) // step <= _MOST_ASKED
    ):
        for _ in range((then[0] - now[0]) // step):
            next(value)
    else:
        _ask(value, lambda: repr(value) == place[1])


def _numbers(text: str) -> tuple[Any, ...]:
    try:
        return tuple(ast.literal_eval(text.removeprefix("count").removesuffix(")") + ",)"))
    except (ValueError, SyntaxError):  # of a number of a kind of its own
        return (None,)


def _ask(value: Any, is_there: Callable[[], bool]) -> None:
    for _ in range(_MOST_ASKED):
        if is_there():
            return
        try:
            next(value)
        except StopIteration:
            return
