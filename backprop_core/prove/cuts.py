"""Where a training is cut for a proof: chosen from what a whole run has shown. Pure; the same for the same run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

from backprop_core.prove.stream import Moment, Stream
from backprop_core.quick_dataclass import dataclass


class CutKind(StrEnum):
    """How and where."""

    INSIDE = "inside an epoch"
    EPOCH_END = "at the end of an epoch"
    EVALUATION = "inside an evaluation"
    KILL = "by SIGKILL"


@dataclass(frozen=True, slots=True)
class Cut:
    """One cut.

    Attributes:
        step: behind which step.
        place: for an evaluation, which of the places at which it can be left, counted from 1.
        save_at: for a kill, the step behind which a checkpoint is asked for.
    """

    kind: CutKind
    step: int
    place: int = 0
    save_at: int | None = None

    @property
    def text(self) -> str:
        return f"{self.kind.value} at step {self.step}"


def plan_cuts(whole: Stream, count: int, seed: str = "") -> list[Cut]:
    """`count` cuts, in the order in which they come: one of each kind as far as the run has such places, then more inside.

    Args:
        whole: what the first rank of a whole run has shown.
        seed: makes the choice another one.
    """
    moments = [one for one in whole.steps if one.step > 0]
    if len(moments) < 2 or count < 1:
        return []
    dice = random.Random(f"{seed} {len(moments)} {count}")
    last = moments[-1].step
    ends = _epoch_ends(moments)
    inside = [one.step for one in moments[:-1] if one.step not in ends]
    evaluations = [step for step, places in whole.evaluations.items() if 0 < step < last and places > 1]
    chosen: list[Cut] = []
    taken: set[int] = set()
    for kind in _kinds(count, evaluations=bool(evaluations), ends=bool(ends)):
        if kind is CutKind.EVALUATION:
            step = dice.choice(evaluations)
            chosen.append(Cut(kind, step, place=max(1, whole.evaluations[step] // 2)))
            continue
        steps = [step for step in (ends if kind is CutKind.EPOCH_END else inside) if step not in taken]
        if kind is CutKind.KILL:  # a checkpoint comes before it
            steps = [step for step in steps if step > moments[0].step]
        if not steps:
            continue
        step = dice.choice(steps)
        taken.add(step)
        chosen.append(Cut(kind, step, save_at=max(1, step - 2) if kind is CutKind.KILL else None))
    return sorted(chosen, key=lambda one: (one.step, one.kind is CutKind.EVALUATION))


def _kinds(count: int, *, evaluations: bool, ends: bool) -> list[CutKind]:
    wanted = [CutKind.INSIDE, CutKind.KILL]
    wanted += [CutKind.EPOCH_END] if ends else []
    wanted += [CutKind.EVALUATION] if evaluations else []
    wanted += [CutKind.INSIDE] * count
    return wanted[:count]


def _epoch_ends(moments: Sequence[Moment]) -> list[int]:
    """Steps behind which another epoch begins."""
    return [
        one.step
        for one, after in pairwise(moments)
        if (one.epoch is not None and after.epoch is not None and after.epoch > one.epoch)
        or after.batch <= one.batch - 1
    ]
