"""Walk, difference, a file, restore: generated graphs of objects come back the same, aliases and cycles included."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import ScriptState
from tests.backprop_core.script_state.graphs import change, initial, picture, through_a_file

_ORDERS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 35), st.integers(0, 40)), max_size=12)


def _script() -> tuple[dict[str, Any], ScriptState]:
    names = initial()
    state = ScriptState([DictNamespace(names, "main")])
    state.baseline()
    return names, state


def _names(names: dict[str, Any]) -> Any:
    return picture(dict(sorted(names.items())))


@settings(max_examples=250, deadline=None)
@given(_ORDERS, _ORDERS)
def test_two_cuts_give_the_graph_that_no_cut_gives(before: list[Any], after: list[Any]) -> None:
    """A second process restores what the first changed, goes on changing, and a third has all of both."""
    uncut, first = _script()
    change(uncut, before)
    saved = through_a_file(first.changed())
    assert not first.unkept()

    second_names, second = _script()
    restored = second.restore(saved)
    assert not restored.missing
    assert _names(second_names) == _names(uncut)

    change(uncut, after)
    change(second_names, after)
    third_names, third = _script()
    assert not third.restore(through_a_file(second.changed())).missing
    assert _names(third_names) == _names(uncut)


@settings(max_examples=50, deadline=None)
@given(_ORDERS)
def test_what_did_not_change_is_not_stored(orders: list[Any]) -> None:
    """Without a change only random generators are stored; a second look after none finds the same difference."""
    names, state = _script()
    assert {node["kind"] for node in state.changed()["nodes"]} == {"random"}
    change(names, orders)
    assert [node["name"] for node in state.changed()["nodes"]] == [
        node["name"] for node in state.changed()["nodes"]
    ]
