"""The faults, by name: each spoils a copy of the states that a checkpoint is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

States = dict[str, Any]
_earlier: list[Any] = []


def plant(name: str) -> None:
    """From now on every save of this process has the fault."""
    from backprop_core.session.saver import Saver

    take, spoil = Saver.take, FAULTS[name]

    def spoilt(self: Saver, states: Any, *rest: Any, **named: Any) -> Any:
        mine = {key: _copied(value) for key, value in states.items()}
        spoil(mine)
        return take(self, mine, *rest, **named)

    Saver.take = spoilt  # type: ignore[method-assign]


def _copied(value: Any) -> Any:
    """Dictionaries and lists anew, arrays as they are."""
    if type(value) is dict or type(value).__name__ == "OrderedDict":
        return type(value)((key, _copied(one)) for key, one in value.items())
    return [_copied(one) for one in value] if type(value) is list else value


def _generator(name: str) -> Callable[[States], None]:
    return lambda states: states["backprop.random"].pop(name, None)


def _scheduler(states: States) -> None:
    states.pop("scheduler", None)


def _shift(by: int) -> Callable[[States], None]:
    def shift(states: States) -> None:
        loops = states["backprop.counted"]["loops"]
        if len(loops) > 1:
            loops[-1]["index"] += by

    return shift


def _slot(name: str, change: Callable[[Any], Any] | None) -> Callable[[States], None]:
    """A variable of the main module: changed, or not stored."""

    def spoil(states: States) -> None:
        for node in states["backprop.script"]["nodes"]:
            slots = node["data"].get("slots", {}) if isinstance(node["data"], dict) else {}
            if name in slots and change is None:
                del slots[name]
            elif name in slots and change is not None:
                slots[name] = change(slots[name])

    return spoil


def _node(ending: str, change: Callable[[Any], Any] | None) -> Callable[[States], None]:
    """An object of its own: its array changed, or not stored."""

    def spoil(states: States) -> None:
        nodes = states["backprop.script"]["nodes"]
        if change is None:
            states["backprop.script"]["nodes"] = [one for one in nodes if not one["name"].endswith(ending)]
            return
        for one in nodes:
            if one["name"].endswith(ending) and "array" in one["data"]:
                one["data"]["array"] = change(one["data"]["array"])

    return spoil


def _tensor(owner: str, *path: Any, change: Callable[[Any], Any]) -> Callable[[States], None]:
    def spoil(states: States) -> None:
        held = states[owner]
        for key in path[:-1]:
            held = held.get(key, {}) if isinstance(held, dict) else held[key]
        if path[-1] not in held:  # an optimizer that has not stepped yet has no slots
            return
        held[path[-1]] = change(held[path[-1]])

    return spoil


def _averages(states: States) -> None:
    """Averaged weights of one save before."""
    mine = [
        one for one in states["backprop.script"]["nodes"] if ".ema" in one["name"] and "array" in one["data"]
    ]
    now = {one["name"]: copy.deepcopy(one["data"]["array"]) for one in mine}
    for one in mine:
        one["data"]["array"] = (
            _earlier[-1].get(one["name"], now[one["name"]]) if _earlier else now[one["name"]] * 0
        )
    _earlier.append(now)


def _ranks(states: States) -> None:
    parts = states.get("backprop.ranks")
    if isinstance(parts, list):
        parts.reverse()


def _own_fault(states: States) -> None:
    raise LookupError("planted")


FAULTS: dict[str, Callable[[States], Any]] = {
    "torch generator": _generator("torch"),
    "python generator": _generator("python"),
    "numpy generator": _generator("numpy"),
    "scheduler": _scheduler,
    "batch ahead": _shift(1),
    "batch behind": _shift(-1),
    "counter": _slot("seen", lambda value: value - 1),
    "best value": _slot("best", None),
    "buffer": _tensor("model", "1.running_mean", change=lambda value: value * 0),
    "averages": _averages,
    "window": _slot("micro", lambda value: value + 1),
    "momentum": _tensor("optimizer", "state", 0, "exp_avg", change=lambda value: value * 0),
    "learning rate": _tensor("optimizer", "param_groups", 0, "lr", change=lambda value: value * 2),
    "own generator": _node("noise", None),
    "weight": _tensor("model", "4.bias", change=lambda value: value + 1e-6),
    "history": _node("history", None),
    "ranks": _ranks,
    "own fault": _own_fault,
}
