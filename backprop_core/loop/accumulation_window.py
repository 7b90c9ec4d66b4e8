"""Gradient accumulation in a loop that does not tell of it."""

from __future__ import annotations

from backprop_core.quick_dataclass import dataclass


@dataclass(slots=True)
class AccumulationWindow:
    """Gradient accumulation, seen from outside: how many batches lie between two optimizer steps.

    `stepped_at` is told the number of batches that were over when a step was taken, so the step belongs to the next one.
    """

    last: int | None = None
    length: int = 1

    def stepped_at(self, batches: int) -> None:
        """An optimizer step was taken when so many batches were over."""
        if self.last is not None and batches > self.last:
            self.length = batches - self.last
        self.last = batches

    def rest(self, batches: int) -> int:
        """Batches until the next optimizer step, if gradients of some batches are pending; else 0."""
        if self.last is None or self.length <= 1:
            return 0
        pending = batches - 1 - self.last
        return max(0, self.length - pending) if pending > 0 else 0
