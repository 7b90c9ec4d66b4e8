"""Checkpoints of version 0.1 in which a metric stands for the model, and how they are read.

That version looked for the model with `in`, which asked torchmetrics' `Metric.__eq__`. It answers with a new
`CompositionalMetric` that has both sides as its children, so the next look took that for the owner of the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from backprop_torch.objects import unwrapped

_NAME = re.compile(r"CompositionalMetric(_\d+)?$")
_SIDES = ("metric_a.", "metric_b.")
_REST = "backprop.rest"


def release_adopted(states: dict[str, Any], candidates: Callable[[], Mapping[str, object]]) -> None:
    """Take such metrics out of `states`, and what they adopted back under the name that the script gives it.

    Args:
        states: a checkpoint's, changed in place.
        candidates: the script's objects by name; asked only where there is such a metric.
    """
    wrong = [name for name, state in states.items() if _NAME.match(name) and _is_adopter(state)]
    if not wrong:
        return
    here = candidates()
    for name in wrong:
        if name in here:  # the script has one of its own
            continue
        state, rest = states.pop(name), dict(states.get(_REST) or {})
        adopter_rest = rest.pop(name, {})
        for side in _SIDES:
            part = _side(state, side)
            for own, value in here.items():
                if own not in states and part and _is_state_of(part, value):
                    states[own] = part
                    rest[own] = _side(adopter_rest, side)
        states[_REST] = rest


def _is_adopter(state: Any) -> bool:
    return isinstance(state, Mapping) and bool(state) and all(str(key).startswith(_SIDES) for key in state)


def _is_state_of(state: Mapping[str, Any], value: object) -> bool:
    return isinstance(value, nn.Module) and set(unwrapped(value).state_dict()) == set(state)


def _side(value: Any, side: str) -> Any:
    """What `value` holds under the names that begin with `side`, without that beginning."""
    if isinstance(value, Mapping):
        if not any(str(key).startswith(_SIDES) for key in value):
            return {key: _side(item, side) for key, item in value.items()}
        return {key.removeprefix(side): item for key, item in value.items() if key.startswith(side)}
    if isinstance(value, list):
        return [item.removeprefix(side) for item in value if item.startswith(side)]
    return value
