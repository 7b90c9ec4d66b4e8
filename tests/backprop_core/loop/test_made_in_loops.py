"""Which of the objects in a collection the code on the way to the running loops puts there again."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from backprop_core.loop.made_in_loops import MadeInLoops
from backprop_core.loop.running_loop import RunningLoop
from backprop_core.loop.seen_objects import SeenObjects
from backprop_core.script_state.paths import INDEX, KEY
from backprop_core.script_state.rewrite import Site


class _Model:
    """Something that can be held weakly."""


def _begun_with(*collections: Any) -> MadeInLoops:
    """Inside a loop that began when these were as they are now."""
    there = SeenObjects()
    for one in collections:
        there.look_into(one, list(one.values()) if isinstance(one, dict) else list(one))
    loop = RunningLoop(Site("loop", "here", trains=True), there=there)
    return MadeInLoops(lambda: [loop], lambda: True, lambda: None)


@pytest.mark.parametrize("kind", [list, deque, tuple])
def test_what_lay_in_its_place_when_the_loop_began_comes_again(kind: Any) -> None:
    """The same object in the same place; one that came later, or lies elsewhere by now, does not."""
    first, second = _Model(), _Model()
    models = kind([first, second])
    made = _begun_with(models)
    assert made.put_again(models, ((INDEX, 1),)) is second
    if kind is tuple:
        return
    models.append(_Model())
    assert made.put_again(models, ((INDEX, 2),)) is None
    assert made.put_again(models, ((INDEX, 3),)) is None
    models.reverse()
    assert made.put_again(models, ((INDEX, 0),)) is None
    assert made.put_again(models, ((INDEX, 1),)) is second


def test_what_lies_deeper_comes_again_with_what_it_lies_in() -> None:
    """Through tuples and dictionaries of the script's; another object under the same key does not come again."""
    model = _Model()
    member = {"losses": [], "model": model}
    members = {"round 0": (member, 0.5)}
    made = _begun_with(members, members["round 0"], member)
    way = ((KEY, "round 0"), (INDEX, 0), (KEY, "model"))
    assert made.put_again(members, way) is model
    assert made.put_again(members, ((KEY, "round 0"), (INDEX, 0), (KEY, "losses"))) is None
    assert made.put_again(members, ((KEY, "round 1"),)) is None
    member["model"] = _Model()
    assert made.put_again(members, way) is None


def test_an_object_that_has_got_another_class_does_not_come_again() -> None:
    """A layer that is parametrized is the same object of a class that torch makes; the new process has the one before."""
    models = [_Model()]
    made = _begun_with(models)
    models[0].__class__ = type("Parametrized", (_Model,), {})
    assert made.put_again(models, ((INDEX, 0),)) is None


def test_nobody_can_tell_of_what_nobody_looked_into() -> None:
    """A collection that was too large, or not there when the loop began."""
    models = [_Model()]
    assert _begun_with().put_again(models, ((INDEX, 0),)) is None
