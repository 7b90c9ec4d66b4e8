"""Names that an adapter relies on, and methods that it replaces for a while."""

from __future__ import annotations

from typing import Any

import pytest

from backprop_core.errors import UnsupportedVersionError
from backprop_core.ports.patches import Need, Patches, check, missing


class Loop:
    """A part of a framework."""

    def __init__(self) -> None:
        self.batches = 3

    @property
    def computed(self) -> int:
        raise RuntimeError("a property is not asked")

    def advance(self) -> str:
        return "framework"


class Trainer:
    def __init__(self) -> None:
        self.loop = Loop()


NEEDS = (Need("loop", ("batches", "computed", "advance"), "find boundaries"),)


def test_a_missing_name_is_said_with_its_place_and_purpose() -> None:
    """Attributes of instances and classes are found, properties are not computed, a missing place counts as missing."""
    check(NEEDS, Trainer(), owner="its Trainer", version="Light 3", hint="Use 2.")
    with pytest.raises(UnsupportedVersionError) as refused:
        check(
            [*NEEDS, Need("loop", ("_run",), "run")],
            Trainer(),
            owner="its Trainer",
            version="Light 3",
            hint="Use 2.",
        )
    assert str(refused.value) == (
        "Light 3 is not supported: its Trainer has no loop._run, which backprop needs to run. Use 2."
    )
    found = missing([Need("loop.inner", ("x",), "go in")], Trainer())
    assert found is not None
    assert found[0] == "loop.inner"


def test_what_was_there_is_there_again() -> None:
    """A method of the class is the class's again, an attribute of the instance has its value, in any order."""
    loop, patches = Loop(), Patches()
    assert patches.replace(loop, "advance", lambda: "ours")() == "framework"
    assert patches.replace(loop, "batches", 7) == 3
    assert (loop.advance(), loop.batches) == ("ours", 7)
    patches.give_back(loop, "advance")
    assert "advance" not in vars(loop)
    patches.give_all_back()
    assert (loop.advance(), vars(loop)) == ("framework", {"batches": 3})


def test_what_somebody_else_has_put_in_place_stays() -> None:
    """Whoever has replaced our method meanwhile keeps it; what it wraps still works."""
    loop, patches = Loop(), Patches()
    original = patches.replace(loop, "advance", lambda: f"ours {original()}")
    inner: Any = loop.advance
    theirs: Any = lambda: f"theirs {inner()}"
    loop.advance = theirs  # type: ignore[method-assign]
    patches.give_all_back()
    assert loop.advance is theirs
    assert loop.advance() == "theirs ours framework"
    patches.give_all_back()
    assert loop.advance is theirs
