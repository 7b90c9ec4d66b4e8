"""Optimizer steps of a rewritten script that may be a whole training by themselves, such as one of L-BFGS.

Such a step is saved inside. Its parameters at an evaluation are a place to go on from; the loops and the script's variables
are kept as they were just before it. On a resume the script is led to the step once more, which begins anew from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Any

from backprop_core.clock import Clock
from backprop_core.loop.counted_loops import CountedLoops
from backprop_core.loop.loop_state import RANDOM, SCRIPT
from backprop_core.loop.running_loop import RunningLoop, SavedStep
from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.restored import IN_PLACE

_SHARE = 0.01
"""Of the time of such a step, at most this part goes into looking at the script before it."""
COUNTED = "backprop.counted"
"""Under this name the loops of a rewritten script are in a checkpoint."""


@dataclass(slots=True, eq=False)
class StepBegun:
    """How things were just before a step.

    Attributes:
        running: the loops around it.
        number: see `SavedStep`.
    """

    running: list[RunningLoop]
    number: int
    variables: Any = field(repr=False)
    random: Any = field(repr=False)
    iterators: Any = field(repr=False)

    def instead(self, part: dict[str, Any]) -> dict[str, Any]:
        """A checkpoint's `part` with the place, the variables and the randomness before the step."""
        step = {"depth": len(self.running), "number": self.number}
        counted = {**part[COUNTED], "iterators": self.iterators, "step": step}
        return {**part, COUNTED: counted, SCRIPT: {**self.variables, IN_PLACE: True}, RANDOM: self.random}


def step_from_state(state: Any) -> SavedStep | None:
    """The step that a checkpoint was made inside, if it was."""
    return SavedStep(int(state["depth"]), int(state["number"])) if isinstance(state, Mapping) else None


class LongSteps:
    """The steps that are given a function: numbers them, and looks at the script before each that may be saved inside.

    Attributes:
        begun: how things were before the step that is being taken; None where it cannot be saved inside.
    """

    def __init__(self, loops: CountedLoops, clock: Clock) -> None:
        self._loops = loops
        self._clock = clock
        self._place: tuple[RunningLoop, int, int] | None = None
        self._number = 0
        self._look_s = self._since = 0.0
        self.begun: StepBegun | None = None

    def is_awaited(self) -> bool:
        """One is about to be taken. True: it is the one that the checkpoint was made inside, and awaited no more."""
        loops, parent = self._loops, self._loops.parent()
        place = (parent, parent.index, len(parent.ended))
        self._number = self._number + 1 if place == self._place else 0
        self._place = place
        if loops.step_awaited != SavedStep(len(loops.stack), self._number):
            return False
        if loops.way_back or parent.over_before:
            return False
        loops.step_awaited = None
        loops.stepped = False
        return True

    def begin(self, look: Callable[[int], StepBegun | None], *, seldom: bool) -> None:
        """Remember how things are, if the step may be a whole training, or `look`, given its number, costs little."""
        now = self._clock.monotonic()
        took_s, self._since = now - self._since, now
        if not self._loops.going_back and (seldom or self._look_s <= took_s * _SHARE):
            self.begun = look(self._number)
            self._look_s = self._clock.monotonic() - now

    @contextmanager
    def evaluation(self, *, counted: bool) -> Iterator[None]:
        """Around one call of the function; unless `counted`, loops inside belong to the step."""
        before, self._loops.evaluating = self._loops.evaluating, not counted
        try:
            yield
        finally:
            self._loops.evaluating = before
