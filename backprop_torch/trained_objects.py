"""What trains in this process, seen through torch's optimizer hooks: for scripts whose loops are counted."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from backprop_core.ports.trained_objects import StepListener
from backprop_core.quick_dataclass import dataclass
from backprop_core.weak_identity import WeakIdentityMap
from backprop_torch.autograd_graphs import awaits_backward
from backprop_torch.discovery import in_use_with, live_objects, named, script_names
from backprop_torch.long_step import REGULAR, LongStep

_LONGEST_WINDOW = 1000
"""So many backward passes without a step of any optimizer: the ones that exist are not what trains."""


@dataclass(slots=True)
class _Taken:
    """Steps that an optimizer has taken, and how many all had when it took the last."""

    steps: int = 0
    last: int = 0


class TorchTrainedObjects:
    """The optimizers that have stepped, and what belongs to them. Implements the port `TrainedObjects`."""

    sees_steps = True

    def __init__(self) -> None:
        self._stepped: WeakSet[Optimizer] = WeakSet()
        self._taken: WeakIdentityMap[_Taken] = WeakIdentityMap()
        self.steps = 0
        self._owner = os.getpid()
        self.grew = self._by_hand = False
        self._backwards = 0

    def may_step(self) -> bool:
        """Whether any optimizer of torch's exists: without one, JAX may train, or whoever updates weights by hand."""
        return bool(live_objects()[Optimizer])

    @contextmanager
    def watch(self, listener: StepListener) -> Iterator[None]:
        """Tell `listener` of each optimizer step; without any optimizer, a backward pass is one."""

        def before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
            if os.getpid() != self._owner:
                return None
            if optimizer not in self._stepped:
                self._stepped.add(optimizer)
                self.grew = True
            taken = self._taken.get(optimizer)
            seldom = taken is None or taken.steps < REGULAR
            watched = LongStep(
                optimizer, lambda lowest: self._inside(listener, lowest, seldom), listener.evaluation
            ).watched(args, kwargs)
            listener.before_step(closure=watched is not None, seldom=seldom)
            return watched

        def after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if os.getpid() == self._owner:
                self.steps += 1
                taken = self._taken.get(optimizer)
                if taken is None:
                    self._taken[optimizer] = taken = _Taken()
                taken.steps, taken.last = taken.steps + 1, self.steps
                listener.stepped()

        hooks = [
            register_optimizer_step_pre_hook(before_step),
            register_optimizer_step_post_hook(after_step),
        ]
        original = torch.Tensor.backward

        def backward(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(tensor, *args, **kwargs)  # type: ignore[no-untyped-call]
            if not self._stepped and os.getpid() == self._owner and self._updates_by_hand():
                listener.stepped()
            return result

        backward.__doc__ = original.__doc__
        setattr(torch.Tensor, "backward", backward)  # noqa: B010
        try:
            yield
        finally:
            if torch.Tensor.backward is backward:
                setattr(torch.Tensor, "backward", original)  # noqa: B010
            for hook in hooks:
                hook.remove()

    def _updates_by_hand(self) -> bool:
        """Whether a backward pass before any optimizer step is all that can be seen of a step, and no part of a window."""
        if not self._backwards:
            self._by_hand = not live_objects()[Optimizer]
        self._backwards += 1
        return self._by_hand or self._backwards > _LONGEST_WINDOW

    def _inside(self, listener: StepListener, lowest: bool, seldom: bool) -> None:
        if os.getpid() == self._owner:
            listener.inside_step(lowest=lowest, seldom=seldom)

    def objects(self, frame: FrameType | None = None) -> Mapping[str, object]:
        """What the optimizers that have stepped train, and what belongs to it, by the script's names."""
        self.grew = False
        return self._named(list(self._stepped), frame)

    def candidates(
        self, frame: FrameType | None = None, wanted: Collection[str] = ()
    ) -> Mapping[str, object]:
        """The same for all optimizers that exist."""
        return self._named(None, frame, wanted)

    def were_trained(self, values: Iterable[object]) -> None:
        """Optimizers that have stepped in an earlier process."""
        self._stepped.update(value for value in values if isinstance(value, Optimizer))

    def is_idle(self, value: object, since: int) -> bool:
        """Modules whose parameters no optimizer has changed since, optimizers without a step, and their schedulers."""
        if isinstance(value, LRScheduler):
            return self.is_idle(value.optimizer, since)
        busy = [one for one in list(self._stepped) if (taken := self._taken.get(one)) and taken.last > since]
        if isinstance(value, Optimizer):
            return all(one is not value for one in busy)
        if not isinstance(value, nn.Module):
            return False
        trained = {id(p) for one in busy for group in one.param_groups for p in group["params"]}
        return not any(id(p) in trained for p in value.parameters())

    def steers(self, value: object) -> bool:
        """Optimizers and schedulers."""
        return isinstance(value, Optimizer | LRScheduler)

    def awaits_backward(self, value: object) -> bool:
        """Whether a backward pass may still go through the graph that `value` ends."""
        return awaits_backward(value)

    def computes_again(self, owner: object, attribute: str) -> bool:
        """Whether a hook before `forward` makes it: a pruned or a normed weight."""
        if not issubclass(type(owner), nn.Module):
            return False
        hooks = owner._forward_pre_hooks.values()  # type: ignore[attr-defined]
        return any(
            attribute in (getattr(one, "_tensor_name", None), getattr(one, "name", None)) for one in hooks
        )

    def _named(
        self, optimizers: list[Optimizer] | None, frame: FrameType | None, wanted: Collection[str] = ()
    ) -> Mapping[str, object]:
        live = live_objects()
        found = in_use_with(live[Optimizer] if optimizers is None else optimizers, live)
        if not found and not live[Optimizer]:  # a script that updates its parameters by itself
            trained = [
                module for module in live[nn.Module] if any(p.requires_grad for p in module.parameters())
            ]
            inside = {id(child) for module in trained for child in module.children()}
            found = [module for module in trained if id(module) not in inside]
        given = script_names(frame or sys._getframe(1), outermost_wins=True, preferred=wanted)
        return named(_without_leftovers(found, given), given)


def _without_leftovers(found: list[object], given: Mapping[int, str]) -> list[object]:
    """Without modules that the script has no name for and whose parameters are all of one that it has: a layer that another
    has replaced, which torch itself keeps alive in a cycle.
    """
    owned = {
        id(p)
        for value in found
        if isinstance(value, nn.Module) and id(value) in given
        for p in value.parameters()
    }
    return [
        value
        for value in found
        if not isinstance(value, nn.Module)
        or id(value) in given
        or not owned.issuperset(map(id, value.parameters()))
    ]
