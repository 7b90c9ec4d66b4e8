"""Iterators over loaders that a script holds in its variables and asks with `next`: their place is kept with the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from backprop_core.loop.running_loop import RunningLoop
from backprop_core.ports.framework import Framework
from backprop_core.ports.loaders import LoaderPasses, LoaderReading, RandomnessKeeper
from backprop_core.script_state.attributes import attributes_of, set_attribute
from backprop_core.script_state.namespace import Namespace


class HeldIterators:
    """Finds them in the script's variables, and in the attributes of the objects there.

    Args:
        passes: what the frameworks remember of the passes that a script has begun.
        frameworks: those in use.
        running: the loops that are running, the outermost first. One may go over an iterator that a variable holds, too.
        randomness: the random generators of the process.
    """

    def __init__(
        self,
        passes: Sequence[LoaderPasses],
        frameworks: Sequence[Framework],
        running: Sequence[RunningLoop],
        randomness: RandomnessKeeper,
    ) -> None:
        self._randomness = randomness
        self._passes = passes
        self._frameworks = frameworks
        self._read = {
            f"{depth} {number}": iterator
            for depth, loop in enumerate(running)
            for number, iterator in enumerate(loop.iterators)
            if iterator is not None
        }

    def capture(self, namespaces: Iterable[Namespace]) -> list[dict[str, Any]]:
        """Where each stands."""
        found = []
        places = list(self._places(namespaces))
        for space, name, attribute, value in places:
            for passes in self._passes:
                made = passes.made_by(value)
                given = passes.given_by(value)
                if made is not None and given is not None:
                    position = made[1].position(midway=False)
                    place = {"space": space.name, "name": name, "attribute": attribute}
                    read = next((key for key, one in self._read.items() if one is value), None)
                    loader = next(([s.name, n, a] for s, n, a, one in places if one is made[0]), None)
                    found.append(
                        {**place, "given": given, "position": position, "read": read, "loader": loader}
                    )
        return found

    def begin(
        self, saved: Sequence[Mapping[str, Any]], namespaces: Sequence[Namespace]
    ) -> list[tuple[Mapping[str, Any], Any]]:
        """Begin each again where it stood; None for one that is not there, and whose loader is not there either.

        What making it draws and changes is put back behind it, with the rest of the script.
        """
        begun = []
        for one in saved:
            there = self._at([one["space"], one["name"], one["attribute"]], namespaces)
            made = next((m for p in self._passes if (m := p.made_by(there)) is not None), None)
            if made is None and one.get("loader") is not None:  # the script makes it when it first needs it
                made = self._loader_at(one["loader"], namespaces)
            iterator = self._read.get(str(one.get("read")))
            if iterator is None and made is not None:
                iterator = self._begun(*made, one)
            begun.append((one, iterator))
        return begun

    def _at(self, place: Sequence[str], namespaces: Sequence[Namespace]) -> Any:
        return next((v for s, n, a, v in self._places(namespaces) if [s.name, n, a] == list(place)), None)

    def _loader_at(
        self, place: Sequence[str], namespaces: Sequence[Namespace]
    ) -> tuple[Any, LoaderReading] | None:
        loader = self._at(place, namespaces)
        if any(passes.is_loader(loader) for passes in self._passes):
            for framework in self._frameworks:
                reading = framework.reading(loader, self._randomness)
                if reading is not None:
                    return loader, reading
        return None

    def put(
        self, begun: Sequence[tuple[Mapping[str, Any], Any]], namespaces: Sequence[Namespace]
    ) -> list[str]:
        """Put what `begin` gave into the script's variables; the names of those that are not there."""
        missing = []
        for one, iterator in begun:
            space = next((space for space in namespaces if space.name == one["space"]), None)
            variables = {} if space is None else dict(space.items())
            if iterator is None or space is None or one["name"] not in variables:
                missing.append(f"{one['space']}.{one['name']} (it is not an iterator over a loader here)")
            elif one["attribute"]:
                set_attribute(variables[one["name"]], one["attribute"], iterator)
            else:
                space.set(one["name"], iterator)
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
                kind = type(value)
                if kind.__module__ not in ("builtins", "types"):
                    own = self._own_parts(kind)
                    for attribute, held in attributes_of(value):
                        if attribute not in own:
                            yield space, name, attribute, held

    def _own_parts(self, kind: type) -> frozenset[str]:
        """What belongs to the object itself: the iterator of a loader whose workers stay is the one that a loop reads."""
        return frozenset().union(*(framework.script_parts(kind) or () for framework in self._frameworks))
