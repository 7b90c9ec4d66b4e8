"""Numbers for objects that training itself has made: all differences in a checkpoint mean the same object by one number."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from weakref import ref

from backprop_core.weak_identity import WeakIdentityMap


class NumberedObjects(MutableMapping[int, object]):
    """Objects by their numbers, as long as they live. New numbers are drawn at random: other processes have given some."""

    def __init__(self) -> None:
        self._objects: dict[int, ref[object]] = {}
        self._numbers: WeakIdentityMap[int] = WeakIdentityMap()
        self._restored: WeakIdentityMap[bool] = WeakIdentityMap()

    def number_of(self, value: object) -> int:
        """The number of `value`, which it gets now if it has none. What cannot be held weakly gets another each time."""
        number = self._numbers.get(value)
        if number is None:
            number = int.from_bytes(os.urandom(6), "big")
            self[number] = value
        return number

    def known_number(self, value: object) -> int | None:
        """The number of `value`, if it has one."""
        return self._numbers.get(value)

    def restored(self, number: int, value: object) -> None:
        """`value` was made for a difference, and by no code of the script's."""
        self[number] = value
        if self._numbers.get(value) is not None:
            self._restored[value] = True

    def was_restored(self, value: object) -> bool:
        """Whether it was."""
        return value in self._restored

    def __setitem__(self, number: int, value: object) -> None:
        try:
            self._numbers[value] = number
            self._objects[number] = ref(value)
        except TypeError:  # slots without a place for weak references
            self._objects.pop(number, None)

    def __getitem__(self, number: int) -> object:
        value = self._objects[number]()
        if value is None:
            del self._objects[number]
            raise KeyError(number)
        return value

    def __delitem__(self, number: int) -> None:
        del self._objects[number]

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._objects))

    def __len__(self) -> int:
        return len(self._objects)
