"""A loop that has never heard of boxes: what watches it, and what the watching tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, Protocol


class ResumePoint(Enum):
    """Where the data of a loop goes on."""

    UNKNOWN = "unknown"
    """The checkpoint does not say: it was made in loops of a box's own, say."""
    AWAITED = "awaited"
    """The interrupted pass has not begun again so far."""
    PASS = "pass"
    """The interrupted pass goes on at its next batch."""
    NEXT_PASS = "next pass"
    """The checkpoint was made between two passes."""
    STEP = "step"
    """A loop without a loader goes on at the optimizer step that was interrupted."""


class LoopListener(Protocol):
    """What a framework calls while a script's own loop runs that knows nothing of backprop."""

    def pass_begins(self) -> None:
        """Just before a pass over a loader begins that may be one that trains."""
        ...

    def first_step(self) -> None:
        """Just before the first optimizer step of the block."""
        ...

    def training_begins(self, number: int) -> None:
        """Just before the first optimizer step of a further training, with objects of its own; the process's first is 0."""
        ...

    def objects_joined(self) -> None:
        """Just before the first step of an optimizer that trains beside those that were known."""
        ...

    def place_lost(self) -> None:
        """The pass that was to go on is under way already, and cannot be taken back: its samples come again."""
        ...

    def not_exact(self, caveat: str) -> None:
        """The pass goes on in its place; a sentence says what of it does not come back bit for bit."""
        ...

    def cannot_follow(self, why: Exception | str, *, entirely: bool) -> None:
        """The script has got what it would have got without us, and is not followed any further.

        Args:
            why: what unforeseen thing went wrong in the watching, or half a sentence on what the script does.
            entirely: nothing is watched any more; otherwise only the place in the data is lost.
        """
        ...

    def at_boundary(self, *, epoch_end: bool) -> None:
        """Between two steps; may raise the private signal that leaves the block."""
        ...

    def inside_step(self, *, lowest: bool, seldom: bool) -> None:
        """Inside of an optimizer step that evaluates its closure many times; may raise the signal that leaves the block.

        Args:
            lowest: the loss is the lowest of the step so far.
            seldom: no regular boundaries come between such steps.
        """
        ...

    def must_leave(self) -> bool:
        """Whether the block has to be left now, even in the middle of an evaluation. Cheap when called often."""
        ...


class RawLoop(Protocol):
    """An unchanged training loop seen from outside: what it uses, where it is, and when it is between two steps."""

    def watch(self) -> AbstractContextManager[None]:
        """Hooks are in place inside this context and gone after it."""
        ...

    def objects(self) -> Mapping[str, object]:
        """What training uses, by a name that is the same in every process; complete at the first boundary."""
        ...

    def candidates(self) -> Mapping[str, object]:
        """What exists already and could be used, by the same names."""
        ...

    def repair(self, states: dict[str, Any]) -> None:
        """Mend, in place, what an earlier version is known to have stored wrongly, so that it fits the training again."""
        ...

    def position(self) -> Any:
        """Where the running loader stands, as values that a checkpoint can hold, or None."""
        ...

    def resume(self, position: Any, when_begun: Callable[[], object], *, midway: bool = False) -> bool:
        """The next training pass over the matching loader is to start at `position`; `when_begun` is called there, last.

        True: it will be.

        Args:
            midway: a pass is under way already, and goes on as that one.
        """
        ...

    def training_of(self, position: Any) -> int:
        """In which of the process's trainings `position` lies, the first is 0."""
        ...

    def place_of(self, position: Any) -> tuple[ResumePoint, int]:
        """What `position` is, for people, and how many batches of an interrupted pass are over in it."""
        ...

    def goes_on_at_a_step(self, position: Any) -> bool:
        """Whether `position` lies just before an optimizer step, with its gradients."""
        ...

    def step_is_open(self) -> bool:
        """Whether a step was taken since the last boundary."""
        ...

    def forked(self) -> None:
        """This process is a fork of the one whose loops were watched: watch it in its place."""
        ...

    def nullify_until_boundary(self) -> None:
        """Restored state came too late for the first forward pass: no step has an effect before the next boundary."""
        ...
