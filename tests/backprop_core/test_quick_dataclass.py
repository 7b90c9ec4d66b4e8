"""A quick dataclass is what the standard library makes of the same class."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest

from backprop_core.quick_dataclass import dataclass as quick

OPTIONS = [
    {},
    {"frozen": True},
    {"slots": True},
    {"eq": False},
    {"slots": True, "eq": False},
    {"frozen": True, "slots": True},
    {"frozen": True, "eq": False, "repr": False},
]


def record(decorate: Callable[..., Any], options: dict[str, bool]) -> Any:
    @decorate(**options)
    class Record:
        """Every kind of field that ours have."""

        kind: ClassVar[str] = "record"
        name: str
        size: int = 3
        parts: list[int] = field(default_factory=list)
        hidden: float = field(default=0.5, repr=False)
        aside: object = field(default=None, compare=False)
        made: int = field(init=False, default=7)

        @property
        def double(self) -> int:
            return 2 * self.size

    return Record


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_what_the_standard_library_makes(options: dict[str, bool]) -> None:
    """Fields, text, comparison, hash, arguments, copies and what is refused are the same, for each set of options."""
    seen = []
    for decorate in (quick, dataclasses.dataclass):
        made = record(decorate, options)
        one, same, other = made("a", parts=[1]), made("a", 3, [1], 0.5, aside=object()), made("b")
        facts: dict[str, object] = {
            "fields": [(each.name, each.init, each.repr, each.compare) for each in dataclasses.fields(made)],
            "matched": made.__match_args__,
            "text": repr(one) if options.get("repr", True) else None,
            "equal": (one == same, one == other, one == "a", one != other),
            "dict": hasattr(one, "__dict__"),
            "values": dataclasses.asdict(one),
            "changed": dataclasses.asdict(dataclasses.replace(one, size=9)),
            "copied": dataclasses.asdict(copy.copy(one)),
            "deep": dataclasses.asdict(copy.deepcopy(one)),
            "double": one.double,
            "kind": made.kind,
            "separate": made("x").parts is not made("x").parts,
        }
        for title, does in {
            "hash": lambda: hash(made("a", parts=())) == hash(made("a", parts=())),  # noqa: B023
            "set": lambda: setattr(one, "size", 4),  # noqa: B023
            "new": lambda: setattr(one, "no_field", 4),  # noqa: B023
            "delete": lambda: delattr(one, "size"),  # noqa: B023
            "too many": lambda: made(1, 2, 3, 4, 5, 6, 7),  # noqa: B023
            "none": made,
            "unknown": lambda: made("a", no_field=1),  # noqa: B023
        }.items():
            try:
                facts[title] = does()
            except Exception as error:
                # A new name in a frozen one with slots is a TypeError of Python 3.11's own `super()`.
                facts[title] = "refused" if title == "new" else type(error)
        seen.append(facts)
    assert seen[0] == seen[1]


@quick(frozen=True, slots=True)
class Sent:
    """One that goes to another process."""

    name: str
    size: int = 2


def test_a_frozen_one_with_slots_can_be_pickled() -> None:
    """Its state is set past the refusal to set anything."""
    assert pickle.loads(pickle.dumps(Sent("a", 5))) == Sent("a", 5)


def test_what_a_class_writes_itself_stays() -> None:
    """Its own text, comparison and `__post_init__` count, in slots too."""

    @quick(slots=True)
    class Own:  # noqa: PLW1641
        name: str
        size: int = 0

        def __post_init__(self) -> None:
            self.size = len(self.name)

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

    assert repr(Own("abc")) == "own"
    assert Own("abc").size == 3
    assert Own("abc") == 5


def test_fields_of_a_base_come_first() -> None:
    """A subclass takes the fields of its base, then its own, and no slot twice."""

    @quick(frozen=True, slots=True)
    class Base:
        name: str

    @quick(frozen=True, slots=True)
    class Below(Base):
        size: int = 1

    assert Below("a", 2) == Below("a", 2)
    assert Below("a") != Below("a", 2)
    assert Below.__slots__ == ("size",)
    assert repr(Below("a")).endswith("Below(name='a', size=1)")


def test_it_refers_to_itself() -> None:
    """A record that holds itself has a text all the same."""

    @quick
    class Knot:
        inside: list[object] = field(default_factory=list)

    knot = Knot()
    knot.inside.append(knot)
    assert repr(knot).endswith("Knot(inside=[...])")
