"""Arrays of which each process of a training holds a part: how they leave a box's state, and come into it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backprop_core.checkpoints.shards import SHARDS, OtherParts, OwnShards, SavedShards
from backprop_core.ports.framework import Framework


class SpreadArrays:
    """Asks the frameworks, each for its own."""

    def __init__(self, frameworks: Sequence[Framework]) -> None:
        self._frameworks = frameworks

    def are_in(self, objects: Iterable[object]) -> bool:
        """Whether one of `objects` trains such arrays."""
        held = list(objects)
        return any(framework.holds_spread(held) for framework in self._frameworks)

    def divided(self, states: Mapping[str, object]) -> tuple[dict[str, object], dict[str, Any]]:
        """`states` with marks in the place of such arrays, and what this process holds of them.

        Raises:
            UnsavableStateError: one that cannot be stored as it is.
        """
        found: dict[str, Any] = {}
        for framework in self._frameworks:
            states, shards = framework.divided(states)
            found |= shards
        return dict(states), found

    def to_save(self, states: Mapping[str, object], others: OtherParts | None) -> dict[str, object]:
        """`states` as the first process saves them; `others` waits for what the other processes write."""
        rest, shards = self.divided(states)
        rest[SHARDS] = OwnShards(shards, others)
        return rest

    def united(
        self, states: Mapping[str, object], here: Mapping[str, object], objects: Mapping[str, object]
    ) -> Mapping[str, object]:
        """`states` of a checkpoint with arrays as this process holds them, given the states as they are now.

        Raises:
            StateMismatchError: a part of an array is missing.
        """
        saved = states.get(SHARDS)
        found: Mapping[str, Any] = {name: states[name] for name in here if name in states}
        for framework in self._frameworks:
            found = framework.united(found, saved if isinstance(saved, SavedShards) else None, here, objects)
        return {**states, **found}
