"""What the Trainer's other callbacks remember: those that export it, and those that speak torch's language."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformers.trainer_callback import ExportableState


def capture(callbacks: Sequence[Any]) -> dict[str, Any]:
    """Copies of their states, by a name that is the same in every process."""
    states: dict[str, Any] = {}
    for name, callback in _named(callbacks):
        if isinstance(callback, ExportableState):
            states[name] = copy.deepcopy(callback.state())
        elif _speaks(callback):
            states[name] = copy.deepcopy(callback.state_dict())
    return states


def restore(callbacks: Sequence[Any], states: Mapping[str, Any]) -> None:
    """Give each callback its state, in place, since the script may hold it; one that is new keeps its own."""
    for name, callback in _named(callbacks):
        if name not in states:
            continue
        if not isinstance(callback, ExportableState):
            callback.load_state_dict(copy.deepcopy(states[name]))
        elif type(callback).from_state.__func__ is not ExportableState.from_state.__func__:  # type: ignore[attr-defined]
            kind: Any = type(callback)
            vars(callback).update(vars(kind.from_state(copy.deepcopy(states[name]))))
        else:
            vars(callback).update(copy.deepcopy(states[name]["attributes"]))


def exported(objects: Sequence[Any]) -> dict[str, Any]:
    """The same as Trainer writes it into its own checkpoints: by class, a list where a class is there twice."""
    states: dict[str, Any] = {}
    for one in objects:
        if not isinstance(one, ExportableState):
            continue
        name, state = type(one).__name__, copy.deepcopy(one.state())
        if name not in states:
            states[name] = state
        elif isinstance(states[name], list):
            states[name].append(state)
        else:
            states[name] = [states[name], state]
    return states


def _speaks(callback: Any) -> bool:
    return all(callable(getattr(callback, name, None)) for name in ("state_dict", "load_state_dict"))


def _named(callbacks: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    count: dict[str, int] = {}
    for callback in callbacks:
        if not (isinstance(callback, ExportableState) or _speaks(callback)):
            continue
        kind = type(callback).__name__
        count[kind] = count.get(kind, 0) + 1
        yield f"{kind} {count[kind]}", callback
