"""What the passes over loaders ask of the loop that they feed."""

from __future__ import annotations

from typing import Protocol


class StepCounter(Protocol):
    """The loop's steps, as the passes see them."""

    def is_ours(self) -> bool:
        """Whether this is the process and the thread that trains."""
        ...

    def step_is_open(self) -> bool:
        """Whether a step was taken since the last boundary."""
        ...

    def forget_steps(self) -> None:
        """The steps so far had no effect."""
        ...

    def at_boundary(self, *, epoch_end: bool) -> None:
        """Between two steps; may leave the loop."""
        ...
