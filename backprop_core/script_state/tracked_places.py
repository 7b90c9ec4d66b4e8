"""Where the objects lie that a checkpoint has in files of their own.

The script's own names for them may be others by now: `best = copy.deepcopy(model)`, or one more stage with an `opt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from backprop_core.script_state.attributes import type_text
from backprop_core.script_state.baseline import Baseline
from backprop_core.script_state.graph import Graph
from backprop_core.script_state.numbered import NumberedObjects
from backprop_core.script_state.paths import NotThereError, Path, Roots


def where_they_lie(graph: Graph, baseline: Baseline, tracked: Mapping[str, object]) -> dict[str, list[Any]]:
    """The name, path and type of each tracked object that a variable leads to; whether it was there at the baseline."""
    wanted = set(map(id, tracked.values()))
    lie = (
        {ident: node for node in graph.nodes.values() if (ident := id(node.value)) in wanted}
        if wanted
        else {}
    )
    found: dict[str, list[Any]] = {}
    for name, value in tracked.items():
        node = lie.get(id(value))
        if node is not None:
            path, was_there = [list(step) for step in node.path], baseline.is_same(node.name, value)
            found[name] = [node.name, path, type_text(type(value)), was_there]
    return found


def objects_in(
    state: Mapping[str, Any], roots: Roots, held: Mapping[str, object], made: NumberedObjects
) -> dict[str, object]:
    """What was tracked by each name when `state` was stored, as far as it is here now.

    Args:
        held: what was here at the first boundary, by name.
        made: what differences have had made.
    """
    found: dict[str, object] = {}
    called, numbers = set(map(id, held.values())), state.get("numbers", {})
    for name, node, path, kind, was_there in _told(state):
        there = held.get(node) if was_there else made.get(numbers.get(node, 0))
        if there is not None:
            found[name] = there
        elif not was_there:
            with suppress(NotThereError):
                value = roots.follow(path)
                # one that was there at the first boundary is another: the one that is meant is still to be made
                if id(value) not in called and type_text(type(value)) == kind:
                    found[name] = value
    return found


def objects_at(state: Mapping[str, Any], roots: Roots) -> dict[str, object]:
    """What lies now where the variables led to what was tracked; not of what was there at the first boundary."""
    found: dict[str, object] = {}
    for name, _, path, _, was_there in _told(state):
        with suppress(NotThereError):
            if not was_there:
                found[name] = roots.follow(path)
    return found


def _told(state: Mapping[str, Any]) -> Iterator[tuple[str, str, Path, str, bool]]:
    """Of each tracked object its name, its node, path and type, and whether it was there; earlier versions told none."""
    for name, (node, path, kind, was_there) in state.get("objects", {}).items():
        yield name, node, tuple((str(how), which) for how, which in path), kind, was_there
