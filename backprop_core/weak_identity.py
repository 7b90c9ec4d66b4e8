"""A mapping that knows objects by identity and does not keep them alive.

`WeakKeyDictionary` and `in` ask `__eq__` and `__hash__`, which belong to the user: `torchmetrics.Metric.__eq__` returns a
new module that adopts what it was compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar
from weakref import ref

V = TypeVar("V")


class WeakIdentityMap(Generic[V]):
    """Values by object, for as long as the object lives; iterates over the objects, oldest first."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[ref[Any], V]] = {}

    def __setitem__(self, key: object, value: V) -> None:
        entries, number = self._entries, id(key)

        def forget(gone: ref[Any]) -> None:
            entry = entries.get(number)
            if entry is not None and entry[0] is gone:  # another object may have the number by now
                del entries[number]

        entries[number] = (ref(key, forget), value)

    def get(self, key: object) -> V | None:
        """The value of `key`, or None."""
        entry = self._entries.get(id(key))
        return entry[1] if entry is not None and entry[0]() is key else None

    def __contains__(self, key: object) -> bool:
        entry = self._entries.get(id(key))
        return entry is not None and entry[0]() is key

    def discard(self, key: object) -> None:
        """Forget `key`, if it is known."""
        if key in self:
            del self._entries[id(key)]

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()

    def __iter__(self) -> Iterator[Any]:
        for one, _ in list(self._entries.values()):
            alive = one()
            if alive is not None:
                yield alive

    def __len__(self) -> int:
        return sum(one() is not None for one, _ in list(self._entries.values()))

    def __bool__(self) -> bool:
        return any(one() is not None for one, _ in list(self._entries.values()))


def weak_set(objects: Iterable[object] = ()) -> WeakIdentityMap[bool]:
    """A map used as a set of `objects`."""
    made: WeakIdentityMap[bool] = WeakIdentityMap()
    for one in objects:
        made[one] = True
    return made
