"""Which tensors an optimizer trains, as a part of the script's state: training may add groups and exchange tensors."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor
from torch.optim import Optimizer

_TENSORS: Final = "tensors"


class ParameterGroups:
    """The groups of one optimizer as one name, which stands for a tuple of tensors for each of them. A `Namespace`.

    What else a group holds is in the optimizer's own file, which is read when its groups have their tensors.
    """

    loops_counted = True
    comes_last: Final = True
    """A tensor is called by its place in its module where it has one."""

    def __init__(self, optimizer: Optimizer, name: str) -> None:
        self._groups: list[dict[str, Any]] = optimizer.param_groups
        self._defaults: dict[str, Any] = optimizer.defaults
        self._state: dict[Any, Any] = optimizer.state
        self.name = f"{name}.param_groups"

    def items(self) -> list[tuple[str, object]]:
        return [(_TENSORS, tuple(tuple(group["params"]) for group in self._groups))]

    def set(self, name: str, value: Any) -> None:
        del self._groups[len(value) :]
        for number, tensors in enumerate(value):
            if number >= len(self._groups):
                self._groups.append({**self._defaults, "params": list(tensors)})
            elif not _are_same(self._groups[number]["params"], tensors):
                self._groups[number]["params"] = list(tensors)
        trained = {id(tensor) for tensors in value for tensor in tensors}
        for tensor in [one for one in self._state if isinstance(one, Tensor) and id(one) not in trained]:
            del self._state[tensor]  # with one in it torch gives no state

    def delete(self, name: str) -> None:
        """An optimizer always has groups."""


def _are_same(here: list[Any], there: tuple[Any, ...]) -> bool:
    return len(here) == len(there) and all(one is other for one, other in zip(here, there, strict=True))
