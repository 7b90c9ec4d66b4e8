"""Long lists of numbers as arrays, where numpy is there: a list of a million losses is 8 MB, not a million JSON numbers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

_FROM: Final = 1_000
_PLACES: Final = ("items", "values", "keys")


def packed(data: Any) -> Any:
    """`data` of a node with its long lists of numbers as arrays. Every bit comes back."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(data, dict):
        return data
    result = dict(data)
    for place in _PLACES:
        members = data.get(place)
        if type(members) is not list or len(members) < _FROM:
            continue
        kinds = set(map(type, members))
        if kinds == {float}:
            result[place] = {"numbers": numpy.array(members, numpy.float64)}
        elif kinds == {int} and min(members) >= -(2**63) and max(members) < 2**63:
            result[place] = {"numbers": numpy.array(members, numpy.int64)}
    return result


def unpacked(members: Any) -> list[Any]:
    """The list again."""
    if isinstance(members, Mapping):
        found: list[Any] = members["numbers"].tolist()
        return found
    return list(members)
