"""The objects that a box keeps, by name, and what else belongs to each.

What the script named is held until the box is closed. A loader is held weakly. What was found is held until nobody else
does, which is looked at at each boundary and when the garbage collector runs: a script that makes an optimizer in each
iteration must get rid of them as it would without a box, and one whose `main` has returned still has its last state saved
when the process ends.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MethodType
from typing import Any
from weakref import ref

from backprop_core.errors import UsageError
from backprop_core.loop.loader_parts import brought_by_a_pass
from backprop_core.ports.framework import Framework, Tracked
from backprop_core.script_state.trackables import restore_all, track

_LOADER = "loader "
"""So the names of loaders' companions begin."""


class _Sample:
    pass


_SAMPLE = {"": _Sample()}
_HELD_BY_US = sys.getrefcount(_SAMPLE[""])
"""What an object counts that only one dictionary holds."""


def _held_by_itself(value: object) -> int:
    """Methods of its own that it keeps as attributes: a scheduler leaves one in its optimizer."""
    kept = getattr(value, "__dict__", None) or {}
    return sum(type(one) is MethodType and one.__self__ is value for one in list(kept.values()))


class TrackedObjects:
    """Objects and loaders of one box.

    Attributes:
        all_dropped: something was found, and the script has let go of all of it.
    """

    def __init__(self, frameworks: Sequence[Framework]) -> None:
        self._frameworks = frameworks
        self._named: dict[str, object] = {}
        self._tracked: dict[str, Tracked] = {}
        self._found: dict[str, object] = {}
        self.all_dropped = False
        self._loaders: dict[int, ref[Any]] = {}

    def name(self, name: str, value: object) -> None:
        """Keep `value`, which the script named.

        Raises:
            UsageError: nothing is known about an object of this kind.
        """
        self._tracked[name] = track(name, value, self._frameworks)
        self._named[name] = value

    def find(self, name: str, value: object) -> None:
        """Keep `value` as long as anything else does.

        Raises:
            UsageError: nothing is known about an object of this kind.
        """
        track(name, value, self._frameworks)
        self._found[name] = value
        self.all_dropped = False

    @property
    def found(self) -> dict[str, object]:
        """What was found, by name: a copy."""
        return dict(self._found)

    def forget(self, name: str) -> None:
        """Do not keep any more what was found under `name`."""
        self._found.pop(name, None)

    def rename(self, names: Mapping[int, str]) -> None:
        """Call what was found by these names, where no other thing has them; the script had two names for it."""
        for known, value in list(self._found.items()):
            name = names.get(id(value), known)
            if name not in self.objects:
                self._found[name] = self._found.pop(known)

    def release_dropped(self) -> None:
        """Let go of what was found and nobody else holds any more; a scheduler goes before its optimizer."""
        found, held = self._found, -1
        while held != len(found):
            held = len(found)
            for name in list(found):
                # by no name of ours, which would count as well
                if sys.getrefcount(found[name]) - _held_by_itself(found[name]) <= _HELD_BY_US:
                    del found[name]
                    self.all_dropped = not found and not self._named

    def replace_found(self, present: Mapping[str, object]) -> None:
        """Forget what was found and is not among `present` any more, where another thing has its name now.

        Where what was found is still there, too, all go by the names that the script has for them now, as they would in a
        process that resumes here.
        """
        for name, value in present.items():
            if name in self._found and all(self._found[name] is not one for one in present.values()):
                self._found[name] = value
        if self.displaced_by(present):
            there = {id(value) for value in present.values()}
            self._found = {name: value for name, value in self._found.items() if id(value) not in there}
            self._found |= {name: value for name, value in present.items() if name not in self._named}

    def place(self, there: Mapping[str, object]) -> None:
        """Keep these by these names, and nothing else that was found by one of them; none goes by two names."""
        placed = {
            name: value
            for name, value in there.items()
            if name not in self._named and self._can_be_kept(value)
        }
        ids = {id(value) for value in placed.values()}
        rest = {name: value for name, value in self._found.items() if id(value) not in ids}
        self._found = rest | placed

    def _can_be_kept(self, value: object) -> bool:
        with suppress(UsageError):
            track("", value, self._frameworks)
            return True
        return False

    def displaced_by(self, present: Mapping[str, object]) -> bool:
        """Whether something new among `present` has the name of another thing that was found."""
        known = {id(value) for value in self.objects.values()}
        return any(name in self._found and id(value) not in known for name, value in present.items())

    @contextmanager
    def released_when_collected(self) -> Iterator[None]:
        """Inside, the garbage collector's larger rounds begin with letting go."""

        def collecting(phase: str, info: Mapping[str, int]) -> None:
            if phase == "start" and info.get("generation") == 2:
                with suppress(KeyError, RuntimeError):  # another thread was at it meanwhile
                    self.release_dropped()

        gc.callbacks.append(collecting)
        try:
            yield
        finally:
            gc.callbacks.remove(collecting)

    def forget_found(self) -> None:
        """Another training begins: what was found for the one before is not kept any more."""
        self._found.clear()
        self.all_dropped = False

    def clear(self) -> None:
        """Hold on to nothing."""
        for kept in (self._named, self._tracked, self._found, self._loaders):
            kept.clear()

    @property
    def objects(self) -> dict[str, object]:
        """All that exist, by name."""
        return {**self._named, **self._found}

    def tracked(self) -> dict[str, Tracked]:
        """How each is saved."""
        return {
            name: self._tracked[name] if name in self._tracked else track(name, value, self._frameworks)
            for name, value in self.objects.items()
        }

    # -- loaders -----------------------------------------------------------------------------------------------

    def met_loaders(self) -> frozenset[int]:
        """What the passes over loaders that were read from, and are still there, bring to its place, by identity."""
        there = [loader for one in self._loaders.values() if (loader := one()) is not None]
        return frozenset(id(part) for loader in there for part in brought_by_a_pass(loader))

    def meet_loader(self, loader: object, rest: object) -> None:
        """A loader is read from: its own generators are kept under the first number that is free, and restored.

        Args:
            rest: the companions' states of a checkpoint to go on from, or None.
        """
        if self._number_of(loader) is not None:
            return
        alive = {number for number, one in self._loaders.items() if one() is not None}
        number = next(number for number in range(1, len(alive) + 2) if number not in alive)
        try:
            self._loaders[number] = ref(loader)
        except TypeError:  # a list of batches has no generators
            return
        mine = self._companions_of(f"{_LOADER}{number}", loader)
        if isinstance(rest, Mapping):
            restore_all(mine, {name: rest[name] for name in mine if name in rest}, "The checkpoint")

    def restore_loader(self, loader: object, rest: object) -> None:
        """Set the generators of a loader that was met to where they were when the checkpoint was made."""
        number = self._number_of(loader)
        if number is not None and isinstance(rest, Mapping):
            for name, companion in self._companions_of(f"{_LOADER}{number}", loader).items():
                if name in rest:
                    companion.restore(rest[name])

    def _number_of(self, loader: object) -> int | None:
        return next((number for number, one in self._loaders.items() if one() is loader), None)

    # -- companions --------------------------------------------------------------------------------------------

    def companions(self) -> dict[str, Tracked]:
        """Further state that belongs to the objects, but not into their own files."""
        objects = self.objects
        made: dict[str, Tracked] = {}
        for name, value in objects.items():
            made |= self._companions_of(name, value, objects)
        return made

    def loader_companions(self) -> dict[str, Tracked]:
        """The same of the loaders."""
        made: dict[str, Tracked] = {}
        for number, one in list(self._loaders.items()):
            loader = one()
            if loader is not None:
                made |= self._companions_of(f"{_LOADER}{number}", loader)
        return made

    def _companions_of(
        self, name: str, value: object, objects: Mapping[str, object] | None = None
    ) -> dict[str, Tracked]:
        """Every framework's: a Keras model on torch is a module of torch's as well. Ordinary names hold no slash."""
        made: dict[str, Tracked] = {}
        for framework in self._frameworks:
            companion = framework.companion(value, objects or {})
            if companion is not None:
                made[f"{name}/{framework.name}" if made else name] = companion
        return made
