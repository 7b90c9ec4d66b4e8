"""A checkpoint that the script itself names to go on from, beside ours of the same run: the newer one wins."""

from __future__ import annotations

from collections.abc import Callable

from backprop_core.checkpoints.manifest import CheckpointInfo
from backprop_core.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class ScriptsCheckpoint:
    """What a framework was told to resume from by the script (`ckpt_path`, `resume_from_checkpoint`).

    Attributes:
        path: as messages call it.
        step: of the training that it was made in; None where the file does not tell.
        wall_s: when it was made, seconds since 1970; None where nobody knows.
    """

    path: str
    step: int | None = None
    wall_s: float | None = None

    def is_newer_than(self, ours: CheckpointInfo) -> bool:
        """By its step. Of the same step ours wins, which knows the place in the data; without a step time decides."""
        if self.step is not None:
            return self.step > ours.step
        return self.wall_s is None or self.wall_s > ours.wall_s

    def told_beside(self, ours: CheckpointInfo, *, taken: bool) -> str:
        """Which of the two is taken."""
        theirs = self.path if self.step is None else f"{self.path} of step {self.step}"
        mine = f"{ours.address} of step {ours.step}"
        if taken:
            return f"Training continues from the script's own {theirs}, which is newer than {mine}."
        return (
            f"Training continues from {mine}, which is newer than the script's own {theirs}. To use that one, start "
            "a new run."
        )


def ours_is_taken(
    ours: CheckpointInfo,
    theirs: ScriptsCheckpoint | None,
    say: Callable[[str], None],
    least: Callable[[int], int] = lambda number: number,
) -> bool:
    """Whether training goes on from our checkpoint; which one it is is said where there are two.

    Args:
        theirs: the one that the script names, or None.
        least: the least of the numbers that all ranks give: they agree.
    """
    taken = bool(least(int(theirs is None or not theirs.is_newer_than(ours))))
    if theirs is not None:
        say(theirs.told_beside(ours, taken=not taken))
    return taken
