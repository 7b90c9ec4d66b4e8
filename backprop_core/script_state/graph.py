"""What a walk finds: a flat graph of the objects that may change, each under a name."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Protocol

from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.kinds import Kind, Plan
from backprop_core.script_state.paths import Path


@dataclass(slots=True, eq=False)
class Node:
    """One object that may change.

    Attributes:
        name, path: how it is reached.
        value: the object.
        data: what it holds: plain values, and names of other nodes in their places.
        refs: names of the nodes that it refers to.
        trouble: why it cannot be stored, or empty.
        cold: it was not looked into.
        holds_text: it is a list of strings alone.
    """

    name: str
    path: Path
    value: Any
    plan: Plan
    data: Any = None
    refs: list[str] = field(default_factory=list)
    trouble: str = ""
    cold: bool = False
    holds_text: bool = False

    @property
    def kind(self) -> Kind:
        return self.plan.kind


class Holder(Protocol):
    """What something lies in: a node, or a tuple in one."""

    name: str
    path: Path
    refs: list[str]


@dataclass(slots=True)
class Graph:
    """What a walk found, in the order in which it came by, and whether it had to stop before the end."""

    nodes: dict[str, Node] = field(default_factory=dict)
    cut_short: list[str] = field(default_factory=list)
