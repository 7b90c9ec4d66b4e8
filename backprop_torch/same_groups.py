"""Parameter groups stay the objects that they were when an optimizer is given a state: others may hold them.

torch's `load_state_dict` puts new ones in their place. A wrapper that shares the groups of the optimizer inside it, or a
callback that keeps `optimizer.param_groups[0]` to set its learning rate, would have the old ones from then on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch.optim import Optimizer


@contextmanager
def groups_stay(optimizers: Sequence[object]) -> Iterator[None]:
    """Behind the block their lists of groups, the groups and the state are those from before, with what is in them now."""
    with ExitStack() as all_of_them:
        for one in optimizers:
            if isinstance(one, Optimizer) and isinstance(vars(one).get("param_groups"), list):
                all_of_them.enter_context(_groups_stay(one))
        yield


@contextmanager
def _groups_stay(optimizer: Optimizer) -> Iterator[None]:
    mine = vars(optimizer)
    groups, state, held = mine["param_groups"], mine.get("state"), list(mine["param_groups"])
    yield
    fresh, fresh_state = mine["param_groups"], mine.get("state")
    if fresh is not groups and isinstance(fresh, list) and len(fresh) == len(held):
        for old, new in zip(held, fresh, strict=True):
            _fill(old, new)
        groups[:] = held
        _replace(optimizer, "param_groups", fresh, groups)
    if fresh_state is not state and isinstance(fresh_state, dict) and isinstance(state, dict):
        _fill(state, fresh_state)
        _replace(optimizer, "state", fresh_state, state)


def _fill(old: dict[Any, Any], new: dict[Any, Any]) -> None:
    if old is not new:
        old.clear()
        old.update(new)


def _replace(optimizer: Optimizer, name: str, fresh: object, old: object) -> None:
    """The same in an optimizer inside, if its `load_state_dict` has passed the new ones on."""
    inside = [one for one in vars(optimizer).values() if isinstance(one, Optimizer)]
    for one in (optimizer, *inside):
        if vars(one).get(name) is fresh:
            vars(one)[name] = old
