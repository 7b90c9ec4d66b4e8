"""An optimizer step that is the whole training: L-BFGS calls its closure thousands of times in one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch.optim import Optimizer

MANY = 30
"""So many evaluations are more than a step among many takes: L-BFGS' default is 25 at most."""
REGULAR = 3
"""An optimizer that took so many steps is one whose steps have boundaries between them."""


class LongStep:
    """Watches the closure of one step from inside.

    The parameters at a closure are a place to go on from. What the optimizer knows belongs to the step that runs, half of it
    in its own variables, so nothing of it is saved there: the step begins anew.

    Args:
        optimizer: whose step it is.
        tell: called behind an evaluation once there were many, with whether its loss is the lowest so far.
        around: entered for each evaluation.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        tell: Callable[[bool], None],
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._optimizer = optimizer
        self._tell = tell
        self._entered = around
        self._count = 0
        self._lowest = float("inf")

    def watched(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any] | None:
        """The step's arguments with its closure watched; None: it has none. The first of `args` is the optimizer."""
        if callable(kwargs.get("closure")):
            return args, {**kwargs, "closure": self._around(kwargs["closure"])}
        if len(args) > 1 and callable(args[1]):
            return (args[0], self._around(args[1]), *args[2:]), kwargs
        return None

    def _around(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def evaluate() -> Any:
            with self._entered():
                loss = closure()
            self._count += 1
            if self._count >= MANY:
                self._evaluated(loss)
            return loss

        return evaluate

    def _evaluated(self, loss: Any) -> None:
        try:
            value = float(loss.detach() if hasattr(loss, "detach") else loss)
        except (TypeError, ValueError, RuntimeError):
            value = self._lowest
        lowest, self._lowest = value <= self._lowest, min(value, self._lowest)
        kept, self._optimizer.state = self._optimizer.state, defaultdict(dict)
        try:
            self._tell(lowest)
        finally:
            self._optimizer.state = kept
