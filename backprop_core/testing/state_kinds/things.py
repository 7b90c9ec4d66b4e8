"""Classes such as scripts define for their own use."""

from __future__ import annotations

import enum
import functools
from dataclasses import field
from typing import Any, NamedTuple

from backprop_core.quick_dataclass import dataclass


class Thing:
    """An instance of the script's."""

    made = 0

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"Thing{sorted(vars(self).items())}"


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self) -> None:
        self.left, self.right = 0, [0.5]


class Pair(NamedTuple):
    left: int
    right: list[int]


@dataclass
class BestSoFar:
    best: float = float("inf")
    seen: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    step: int = 0
    curve: tuple[float, ...] = ()


class Color(enum.Enum):
    RED = 1
    GREEN = 2
    BLUE = 3


class Bits(enum.Flag):
    A = 1
    B = 2
    C = 4


class Amount(float):
    """A number with a class of its own."""


class OwnDict(dict[str, int]):
    pages = 0


class OwnList(list[int]):
    pages = 0


class Speaking:
    """Has `state_dict`, like an optimizer of one's own."""

    def __init__(self) -> None:
        self.steps = 0

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps = state["steps"]


class Lazy:
    """Attributes that compute, and one that raises."""

    asked = 0

    def __init__(self) -> None:
        self.steps = 0

    @functools.cached_property
    def half(self) -> float:
        return self.steps / 2

    @property
    def asks(self) -> int:
        type(self).asked += 1
        return type(self).asked

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is not read by anybody")


class Proxy:
    """Makes what it stands for when it is first asked for anything, and be it its class."""

    loaded = 0

    def __init__(self) -> None:
        self.steps = 0

    def _behind(self) -> list[int]:
        type(self).loaded += 1
        return []

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._behind())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind(), name)
