"""Which equal strings in a difference are one object: a file that the script pickles has other bytes where one became two.

Python keeps one object for all equal names in code, such as `"lr"`: those are found there again. Others have numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

STRINGS: Final = "strings"
_PLACES: Final = ("keys", "values", "items")
_MOST: Final = 1_000
"""Of longer lists every string is an object of its own."""
_HOLD_STRINGS: Final = frozenset({str, dict})


def with_numbers(nodes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same nodes; one with a string that is not the first object of its text has a number for each of its strings."""
    numbers, told = _Numbers(), []
    for node in nodes:
        found = [numbers.of(text) for text in _strings_in(node["data"])]
        told.append({**node, STRINGS: found} if any(found) else node)
    return told


def made_one(nodes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The same nodes, in which the strings are one object that were. Differences of earlier versions have no numbers."""
    made: dict[tuple[str, int], str] = {}
    again: list[Mapping[str, Any]] = []
    for node in nodes:
        numbers = iter(node.get(STRINGS, ()))

        def one(text: str, numbers: Iterator[int] = numbers) -> str:
            number = next(numbers, 0)
            if number == 0 and _is_name(text):
                return sys.intern(text)
            return made.setdefault((text, number), _another(text))

        again.append({**node, "data": _with_each(node["data"], one)})
    return again


class _Numbers:
    """Numbers of string objects among those of the same text. Of a name the one that Python keeps is number 0."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._next: dict[str, int] = {}

    def of(self, text: str) -> int:
        number = self._known.get(id(text))
        if number is None:
            is_name = _is_name(text)
            if is_name and sys.intern(_another(text)) is text:
                number = 0
            else:
                number = self._next.get(text, int(is_name))
                self._next[text] = number + 1
            self._known[id(text)] = number
        return number


def _another(text: str) -> str:
    """The same text as an object of its own; it has two characters or more."""
    return text[:1] + text[1:]


def _is_name(text: str) -> bool:
    """Whether Python keeps one object for all such texts in code."""
    return text.isascii() and text.replace("_", "a").isalnum()


def _strings_in(data: Any) -> Iterator[str]:
    """The strings in a node's data, in the order of `_with_each`; one character is always the same object."""
    if type(data) is dict:
        for written in _lists_in(data).values():
            yield from _strings_among(written)


def _strings_among(written: Iterable[Any]) -> Iterator[str]:
    for value in written:
        if type(value) is str:
            if len(value) > 1:
                yield value
        elif type(value) is dict and "tuple" in value:
            yield from _strings_among(value["tuple"])


def _with_each(data: Any, one: Callable[[str], str]) -> Any:
    """A node's data with `one` of each string in its place."""
    if type(data) is not dict:
        return data
    result = dict(data)
    for place, written in _lists_in(data).items():
        again = [_with_one(value, one) for value in written]
        result[place] = dict(zip(data[place], again, strict=True)) if place == "slots" else again
    return result


def _with_one(value: Any, one: Callable[[str], str]) -> Any:
    if type(value) is str:
        return one(value) if len(value) > 1 else value
    if type(value) is dict and "tuple" in value:
        return {**value, "tuple": [_with_one(member, one) for member in value["tuple"]]}
    return value


def _lists_in(data: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Where strings may be, by place."""
    found = {place: data[place] for place in _PLACES if type(data.get(place)) is list}
    found = {place: written for place, written in found.items() if len(written) <= _MOST}
    if type(data.get("slots")) is dict:
        found["slots"] = list(data["slots"].values())
    return {
        place: written for place, written in found.items() if not _HOLD_STRINGS.isdisjoint(map(type, written))
    }
