"""Which objects there were at some moment, without holding them: what lies at the address of a dead one is another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import ref


class SeenObjects:
    """Objects by identity."""

    def __init__(self, objects: Iterable[object] = ()) -> None:
        self._seen: dict[int, ref[object] | None] = {}
        self._looked_into: dict[int, tuple[list[int], list[type]]] = {}
        self.add(objects)

    def add(self, objects: Iterable[object]) -> list[object]:
        """Take these in, too; those of them that are new."""
        fresh = []
        for value in objects:
            if id(value) not in self._seen:
                self._seen[id(value)] = _weak(value)
                fresh.append(value)
        return fresh

    def look_into(self, value: object, members: Sequence[object]) -> list[object]:
        """Take in all members of `value`, in their order; those of them that are new."""
        self._looked_into[id(value)] = list(map(id, members)), list(map(type, members))
        return self.add(members)

    def looked_into(self, value: object) -> bool:
        """Whether the members of `value` were taken in."""
        return id(value) in self._looked_into

    def lay_in(self, holder: object, number: int, value: object) -> bool:
        """Whether `value` was the member of this number, from 0, of `holder`, and of the class of which it is now."""
        members, kinds = self._looked_into.get(id(holder), ([], []))
        return number < len(members) and members[number] == id(value) and kinds[number] is type(value)

    def may_have(self, value: object, holder: object = None) -> bool:
        """Whether `value` was there, or nobody looked into its `holder`.

        Of what cannot be held weakly, such as a list, another at its address is taken for it.
        """
        if holder is not None and id(holder) not in self._looked_into:
            return True
        weak = self._seen.get(id(value), _NEVER)
        return weak is None or weak() is value

    def surely_has(self, value: object) -> bool:
        """Whether `value` was there, as far as that can be told."""
        weak = self._seen.get(id(value))
        return weak is not None and weak() is value


class _Never:
    pass


_NEVER: ref[object] = ref(_Never())


def _weak(value: object) -> ref[object] | None:
    try:
        return ref(value)
    except TypeError:
        return None
