"""How a checkpoint holds what is another in each of several processes that train together; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OWN = "backprop."
RANKS = _OWN + "ranks"
ALONE = "of_first_process_alone"
"""A fact of a checkpoint that lacks what is another in each process: of a script whose processes end one after the other."""
"""The state that holds a list: what each process has of its own, in the order of the ranks."""
REST = _OWN + "rest"
"""The state that holds objects which are neither models nor optimizers, by name."""


def with_part(states: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """`states` with those of one process in their place; what belongs to objects of all stays beside them."""
    rest = {**(states.get(REST) or {}), **(part.get(REST) or {})}
    return {**states, **part, REST: rest}


def for_rank(states: Mapping[str, Any], rank: int, count: int) -> dict[str, Any]:
    """`states` as one of `count` processes has to restore them; the first's, if another number of them saved."""
    parts = states.get(RANKS)
    return with_part(states, parts[rank] if isinstance(parts, list) and len(parts) == count else {})
