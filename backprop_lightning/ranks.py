"""One process, or several that train together: who decides, who follows, and what they tell each other."""

from __future__ import annotations

from typing import Any, Protocol


class Ranks(Protocol):
    """The processes of one training."""

    count: int
    rank: int

    def ask_for_states(self) -> None:
        """The first rank is about to save: the others take part."""
        ...

    def gather(self, own: Any) -> list[Any]:
        """What every rank gave, in the order of ranks, on the first rank; this rank's alone elsewhere."""
        ...


class Alone:
    """One process."""

    count = 1
    rank = 0

    def ask_for_states(self) -> None: ...

    def gather(self, own: Any) -> list[Any]:
        return [own]
