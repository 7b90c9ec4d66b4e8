"""Every kind of training that has to be exact, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.backprop_torch.cutting import Cut
from tests.backprop_torch.kinds import loaders, recipes, script, shapes, values, workers

KINDS: Mapping[str, Callable[[Cut], dict[str, Any]]] = {
    name: train
    for module in (loaders, recipes, script, shapes, values, workers)
    for name, train in vars(module).items()
    if callable(train) and getattr(train, "__module__", "") == module.__name__ and not name.startswith("_")
    if isinstance(train, type(lambda: None))
}
GROUPS: Mapping[str, list[str]] = {
    module.__name__.rpartition(".")[2]: [
        name for name, train in KINDS.items() if train.__module__ == module.__name__
    ]
    for module in (loaders, recipes, script, shapes, values, workers)
}
