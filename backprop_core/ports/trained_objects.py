"""What trains in a script whose loops are counted, and the steps of its optimizers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from types import FrameType
from typing import Protocol


class StepListener(Protocol):
    """Is told of the optimizer steps of a script whose loops are counted."""

    def before_step(self, *, closure: bool, seldom: bool) -> None:
        """An optimizer is about to step.

        Args:
            closure: it is given a function that evaluates the loss, and may call it any number of times.
            seldom: it has taken few steps so far, so this one may be a whole training.
        """
        ...

    def stepped(self) -> None:
        """It has stepped."""
        ...

    def evaluation(self) -> AbstractContextManager[object]:
        """Around each call of the function that the step was given."""
        ...

    def inside_step(self, *, lowest: bool, seldom: bool) -> None:
        """Behind such a call, once there were many: whether its loss is the lowest so far. May end the process."""
        ...


class TrainedObjects(Protocol):
    """What trains in a script whose loops are counted."""

    sees_steps: bool
    """Whether steps are told; where they are not, an iteration of the innermost training loop is one."""

    def may_step(self) -> bool:
        """Whether something exists by which the script may take a step that would be told."""
        ...

    grew: bool
    """An optimizer has stepped that `objects` was not asked about yet."""

    def watch(self, listener: StepListener) -> AbstractContextManager[None]:
        """Inside, `listener` is told of each step of an optimizer."""
        ...

    def objects(self, frame: FrameType | None = None) -> Mapping[str, object]:
        """What trains, by the names that the script gives it in `frame` and around it."""
        ...

    def candidates(
        self, frame: FrameType | None = None, wanted: Collection[str] = ()
    ) -> Mapping[str, object]:
        """What exists and could train, by the same names; of several for one object, one of those that are `wanted`."""
        ...

    steps: int
    """Steps of optimizers that were seen."""

    def is_idle(self, value: object, since: int) -> bool:
        """Whether `value` belongs to no optimizer that has stepped since there were `since` steps."""
        ...

    def steers(self, value: object) -> bool:
        """Whether `value` holds none of what trains, but changes it, as an optimizer does, or decides how."""
        ...

    def were_trained(self, values: Iterable[object]) -> None:
        """An earlier process has trained these, and a checkpoint has brought them back: `objects` tells of them as well."""
        ...

    def awaits_backward(self, value: object) -> bool:
        """Whether `value` is an array at the end of a graph that gradients may still be taken through."""
        ...

    def computes_again(self, owner: object, attribute: str) -> bool:
        """Whether `owner` makes this attribute anew whenever it is used, so that it is no state."""
        ...
