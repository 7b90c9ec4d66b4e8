"""Equal strings that were one object are one again, and those that were two are two: a pickle has the same bytes."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from backprop_core.errors import StateMismatchError
from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import ScriptState
from tests.backprop_core.script_state.graphs import through_a_file


def _script() -> tuple[dict[str, Any], ScriptState]:
    names: dict[str, Any] = {"kept": {}, "texts": [], "pairs": {}}
    state = ScriptState([DictNamespace(names, "main")])
    state.baseline()
    return names, state


def _computed(text: str) -> str:
    """An object of its own, as a program computes it."""
    return "".join(list(text))


def _train(names: dict[str, Any]) -> None:
    for epoch in range(2):
        first, second = _computed("0.weight"), _computed("momentum")
        names["kept"][epoch] = {first: 1, second: 2, "version": 3}
        names["kept"][f"copy of {epoch}"] = {first: 1, second: (second, first), "version": [first, "version"]}
    names["texts"] += [*names["kept"][0], _computed("version"), sys.intern("momentum"), "0", "", "é"]
    names["pairs"] |= {_computed("version"): ("version", _computed("version")), "numbers": [0.5] * 2000}


def _bytes(names: dict[str, Any]) -> bytes:
    return pickle.dumps([names["kept"], names["texts"], names["pairs"], "version", "momentum"])


def test_a_pickle_has_the_bytes_of_the_uncut_script() -> None:
    """Computed strings that several dictionaries share, equal ones that they do not, and names that code has, too."""
    names, state = _script()
    _train(names)
    fresh, again = _script()
    assert not again.restore(through_a_file(state.changed())).missing
    assert fresh == names
    assert _bytes(fresh) == _bytes(names)


def test_the_strings_of_an_earlier_version_come_back() -> None:
    """Its nodes have no numbers: all equal strings are one object then."""
    names, state = _script()
    _train(names)
    saved = through_a_file(state.changed())
    for node in saved["nodes"]:
        node.pop("strings", None)
    fresh, again = _script()
    assert not again.restore(saved).missing
    assert fresh == names


def test_nodes_that_cannot_be_read_are_refused() -> None:
    """In one sentence, as before."""
    _, state = _script()
    with pytest.raises(StateMismatchError, match="cannot be read"):
        state.restore({"format": 1, "paths": {}})


def test_attributes_have_the_names_that_code_has() -> None:
    """Python itself keeps one object for the name of an attribute, whoever sets it."""

    class Thing:
        pass

    thing, fresh = Thing(), Thing()
    state, again = (ScriptState([("thing", one)]) for one in (thing, fresh))
    state.baseline()
    again.baseline()
    thing.momentum = 1  # type: ignore[attr-defined]
    again.restore(through_a_file(state.changed()))
    assert next(iter(vars(fresh))) is sys.intern("momentum")
