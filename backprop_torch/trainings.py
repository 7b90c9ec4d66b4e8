"""Which optimizers train, and when a step belongs to another training of the same process."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from torch import nn
from torch.optim import Optimizer

from backprop_core.weak_identity import WeakIdentityMap, weak_set
from backprop_torch.discovery import in_use_with


class Met(Enum):
    """What an optimizer is that is about to step."""

    KNOWN = "known"
    FIRST = "first"
    JOINED = "joined"
    """It trains beside those that are known."""
    INSTEAD = "instead"
    """One that trained was dropped, and this one is in its place: meta-learning makes one in each iteration."""
    ANOTHER = "another"
    """Another training begins."""


class Trainings:
    """The optimizers of a process. None is kept alive here.

    Attributes:
        active: those that train now.
        earlier: those of each training before, oldest first.
        retired: models of earlier trainings.
        replaced: how often one took the place of another.
        first_cycle: no boundary has come since the training began.
    """

    def __init__(self) -> None:
        self.active = weak_set()
        self.earlier: list[WeakIdentityMap[bool]] = []
        self.retired = weak_set()
        self.replaced = 0
        self.first_cycle = True
        self._ever = 0

    @property
    def number(self) -> int:
        """Of the training that runs; the first is 0."""
        return len(self.earlier)

    def meet(
        self, optimizer: Optimizer, step_is_open: bool, live: Callable[[], dict[type, list[Any]]]
    ) -> Met:
        """An optimizer is about to step.

        Args:
            optimizer: the one.
            step_is_open: others have stepped since the last boundary.
            live: everything that exists.
        """
        if optimizer in self.active:
            return Met.KNOWN
        if not self._ever:
            return self._add(optimizer, Met.FIRST)
        if step_is_open and self._ever > len(self.active):
            self.replaced += 1
            self._ever = len(self.active)
            return self._add(optimizer, Met.INSTEAD)
        if step_is_open and (self.first_cycle or not self._trains_the_same(optimizer)):
            return self._add(optimizer, Met.JOINED)
        for known in self.earlier:
            if optimizer in known:  # they take turns: one training
                self.earlier.remove(known)
                for one in known:
                    self._add(one, Met.JOINED)
                return Met.JOINED
        self._retire(optimizer, live())
        return Met.ANOTHER

    def _add(self, optimizer: Optimizer, met: Met) -> Met:
        self.active[optimizer] = True
        self._ever += 1
        return met

    def _trains_the_same(self, optimizer: Optimizer) -> bool:
        """Whether all that it changes is changed by the others: L-BFGS after Adam, not the other half of a GAN."""
        others = {id(p) for one in self.active for group in one.param_groups for p in group["params"]}
        return all(id(p) in others for group in optimizer.param_groups for p in group["params"])

    def _retire(self, optimizer: Optimizer, live: dict[type, list[Any]]) -> None:
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for value in in_use_with(self.active, live):
            if isinstance(value, nn.Module) and not any(id(p) in trained for p in value.parameters()):
                self.retired[value] = True
        self.earlier.append(weak_set(self.active))
        self.active, self._ever = weak_set([optimizer]), 1
        self.first_cycle, self.replaced = True, 0
