"""What an adapter relies on in its framework without a promise, and what it puts in the place of the framework's methods.

`check` is asked before anything is changed: a version that has moved one of the names is left alone, with one sentence.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from backprop_core.errors import UnsupportedVersionError
from backprop_core.quick_dataclass import dataclass

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Need:
    """Names of a framework that an adapter uses although no documentation promises them.

    Attributes:
        place: where they are, from the root that is checked: `fit_loop.epoch_loop`; empty for the root itself.
        names: attributes there.
        why: what they are for, as the end of "which backprop needs to …".
    """

    place: str
    names: tuple[str, ...]
    why: str


def missing(needs: Iterable[Need], root: object) -> tuple[str, Need] | None:
    """The first name that `root` does not have, from the root on, and what it is for; properties are not computed."""
    for need in needs:
        owner, path = root, ""
        for name in (*filter(None, need.place.split(".")), None):
            wanted = need.names if name is None else (name,)
            for one in wanted:
                if inspect.getattr_static(owner, one, _ABSENT) is _ABSENT:
                    return f"{path}{one}", need
            if name is not None:
                owner, path = getattr(owner, name), f"{path}{name}."
    return None


def check(needs: Iterable[Need], root: object, *, owner: str, version: str, hint: str) -> None:
    """Refuse a framework that does not have all of `needs`.

    Args:
        owner: what messages call the root: `Lightning's Trainer`.
        version: of the framework, with its name.
        hint: which versions are known to work.

    Raises:
        UnsupportedVersionError: one is missing; nothing was changed.
    """
    found = missing(needs, root)
    if found is not None:
        name, need = found
        raise UnsupportedVersionError(
            f"{version} is not supported: {owner} has no {name}, which backprop needs to {need.why}.", hint
        )


class Patches:
    """Attributes of a framework's objects that are replaced for a while."""

    def __init__(self) -> None:
        self._standing: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, value: Any) -> Any:
        """Set an attribute until it is given back; returns what it gave before, bound as it was."""
        given: Any = getattr(owner, name)
        self._standing.append((owner, name, vars(owner).get(name, _ABSENT), value))
        setattr(owner, name, value)
        return given

    def give_back(self, owner: Any, name: str) -> None:
        """One attribute is again what it was, unless somebody has replaced it meanwhile."""
        for entry in reversed(self._standing):
            if entry[0] is owner and entry[1] == name:
                self._standing = [one for one in self._standing if one is not entry]
                _give_back(*entry)
                return

    def give_all_back(self) -> None:
        """The same for all of them, the newest first."""
        standing, self._standing = self._standing, []
        for entry in reversed(standing):
            _give_back(*entry)


def _give_back(owner: Any, name: str, before: Any, ours: Any) -> None:
    if vars(owner).get(name, _ABSENT) is not ours:
        return
    if before is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, before)
