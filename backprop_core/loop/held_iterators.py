"""Iterators over loaders that a script holds in its variables and asks with `next`: their place is kept with the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from backprop_core.ports.loaders import LoaderPasses, LoaderReading
from backprop_core.script_state.attributes import attributes_of, set_attribute
from backprop_core.script_state.namespace import Namespace


class HeldIterators:
    """Finds them in the script's variables, and in the attributes of the objects there.

    Args:
        passes: what the frameworks remember of the passes that a script has begun.
    """

    def __init__(self, passes: Sequence[LoaderPasses]) -> None:
        self._passes = passes

    def capture(self, namespaces: Iterable[Namespace]) -> list[dict[str, Any]]:
        """Where each stands."""
        found = []
        for space, name, attribute, value in self._places(namespaces):
            for passes in self._passes:
                made = passes.made_by(value)
                given = passes.given_by(value)
                if made is not None and given is not None:
                    position = made[1].position(midway=False)
                    place = {"space": space.name, "name": name, "attribute": attribute}
                    found.append({**place, "given": given, "position": position})
        return found

    def restore(self, saved: Sequence[Mapping[str, Any]], namespaces: Sequence[Namespace]) -> list[str]:
        """Begin each again where it stood; the names of those that are not there."""
        missing = []
        for one in saved:
            place = (one["space"], one["name"], one["attribute"])
            there = next(((s, v) for s, n, a, v in self._places(namespaces) if (s.name, n, a) == place), None)
            made = None
            if there is not None:
                made = next((m for p in self._passes if (m := p.made_by(there[1])) is not None), None)
            iterator = None if made is None else self._begun(*made, one)
            if iterator is None or there is None:
                missing.append(f"{one['space']}.{one['name']} (it is not an iterator over a loader here)")
            elif one["attribute"]:
                set_attribute(dict(there[0].items())[one["name"]], one["attribute"], iterator)
            else:
                there[0].set(one["name"], iterator)
        return missing

    def _begun(self, loader: Any, reading: LoaderReading, saved: Mapping[str, Any]) -> Iterator[Any]:
        iterator = reading.begin(saved["position"], saved["given"], None)
        for passes in self._passes:
            passes.remember(iterator, loader, reading)
        return iterator

    def _places(self, namespaces: Iterable[Namespace]) -> Iterator[tuple[Namespace, str, str, object]]:
        for space in namespaces:
            for name, value in list(space.items()):
                yield space, name, "", value
                if type(value).__module__ not in ("builtins", "types"):
                    for attribute, held in attributes_of(value):
                        yield space, name, attribute, held
