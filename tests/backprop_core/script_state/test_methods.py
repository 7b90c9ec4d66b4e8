"""Methods in attributes and collections, and objects at addresses where others have been."""

from __future__ import annotations

from typing import Any

from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import ScriptState
from tests.backprop_core.script_state.graphs import through_a_file


class Stage:
    """Has two methods, one of which is its step."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.step = self.coarse

    def coarse(self) -> str:
        return f"coarse {self.number}"

    def fine(self) -> str:
        return f"fine {self.number}"


def _state(names: dict[str, Any]) -> ScriptState:
    state = ScriptState([DictNamespace(names, "main")])
    state.baseline()
    return state


def _names() -> dict[str, Any]:
    return {"stage": Stage(1), "other": Stage(2), "hooks": [], "by_name": {}}


def test_a_method_that_another_has_replaced_comes_back() -> None:
    """As an attribute of its own object, in a list and a dictionary, and bound to another object than before."""
    names = _names()
    state = _state(names)
    names["stage"].step = names["stage"].fine
    names["hooks"].append(names["other"].fine)
    names["by_name"]["now"] = names["stage"].coarse
    names["other"].step = names["stage"].coarse
    names["stage"].number = 5
    saved = through_a_file(state.changed())
    assert not state.unkept()

    here = _names()
    restored = _state(here).restore(saved)
    assert not restored.missing
    assert here["stage"].step() == "fine 5"
    assert here["hooks"][0]() == "fine 2"
    assert here["by_name"]["now"]() == "coarse 5"
    assert here["other"].step() == "coarse 5"
    assert here["stage"].step.__self__ is here["stage"]


def test_a_method_of_an_object_that_is_new_is_named() -> None:
    """The object cannot be made, so its method cannot either."""
    names = _names()
    state = _state(names)
    names["stage"].step = Stage(9).fine
    state.changed()
    assert [one.type.rpartition(".")[2] for one in state.unkept()] == ["Stage"]


class Plain:
    """Is freed as soon as nobody refers to it."""

    def __init__(self, number: int) -> None:
        self.number = number


def test_an_object_at_the_address_of_a_dead_one_has_the_name_of_its_own_place() -> None:
    """One that has replaced another is kept by its attributes, whatever lies where that one was."""
    names: dict[str, Any] = {"first": None, "grown": [Plain(1)], "exchanged": Plain(0)}
    state = _state(names)
    address, new = id(names["exchanged"]), Plain(11)
    names["exchanged"] = new
    held = []
    while len(held) < 100_000 and not (held and id(held[-1]) == address):
        held.append(Plain(len(held)))
    assert id(held[-1]) == address, "the address did not come again"
    names["first"] = held[-1]
    names["grown"].append(held[-1])
    saved = through_a_file(state.changed())
    assert {one.name for one in state.unkept()} == {"main.first"}

    here: dict[str, Any] = {"first": None, "grown": [Plain(1)], "exchanged": Plain(0)}
    _state(here).restore(saved)
    assert here["exchanged"].number == 11
