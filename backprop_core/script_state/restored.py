"""What came of putting a difference back, apart from the code that does it: only a resume needs that."""

from __future__ import annotations

from dataclasses import field

from backprop_core.quick_dataclass import dataclass

IN_PLACE = "in_place"
"""Set in a difference, new collections are filled in place where this process has them: the statement that is running
may have read a variable already, as `losses.append(optimizer.step(closure))` has."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that was stored and could not be put back."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


@dataclass(slots=True)
class Restored:
    """What came of it.

    Attributes:
        names: what was put back.
        missing: what was not, and why.
        slots: by node, the names in it that were put back; for a node without names, none.
    """

    names: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    slots: dict[str, frozenset[str]] = field(default_factory=dict)
