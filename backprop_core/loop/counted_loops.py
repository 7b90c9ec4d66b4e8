"""The loops of a rewritten script while they run: which are running, how far each is, and which ended before.

A loop that begins is matched with the position of an earlier attempt, if there is one to go back to: a loop that was over
is passed over, one that was running begins where it stood, and with the innermost of those the script is where it was.
What a boundary means is none of this file's business: it asks its `CountedTraining`, such as that in `script_training.py`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from types import FrameType
from typing import Any

from backprop_core.clock import SYSTEM
from backprop_core.loop.counted_training import CountedTraining
from backprop_core.loop.running_loop import EndedLoop, RunningLoop, SavedLoop, SavedStep
from backprop_core.ports.framework import is_tracing
from backprop_core.script_state import rewrite
from backprop_core.script_state.rewrite import Site


class CountedLoops:
    """All loops of the process that are counted; those of the main thread.

    Attributes:
        way_back: running loops of an earlier attempt, the outermost first, that have not begun again yet.
        step_awaited: the checkpoint was made inside an optimizer step, which is to be taken once more.
        evaluating: a step is calling the function that it was given; loops in there are not counted.
        stepped: a training step was taken since the last boundary.
        steps: training steps taken in all.
        iterations_are_steps: nobody can tell of steps, so an iteration of the innermost training loop is one.
        unseen: iterations that were steps, should it turn out that nobody tells of any.
        makes_training: called when the first loop that trains begins.
        dormant: none has begun yet.
        steps_seen: some framework has told of a step, so iterations are not taken for steps.
    """

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}
        self.stack: list[RunningLoop] = []
        self.root = RunningLoop(Site("", "", trains=True))
        self.way_back: list[SavedLoop] = []
        self.step_awaited: SavedStep | None = None
        self.evaluating = False
        self.stepped = False
        self.steps = self.unseen = 0
        self.steps_seen = False
        self.iterations_are_steps = False
        self.training: CountedTraining | None = None
        self.makes_training: Callable[[CountedLoops], CountedTraining] | None = None
        self.dormant = False
        self._opening: list[RunningLoop | None] = []
        self._left_by_break: set[str] = set()
        self._owner = os.getpid()
        self._thread = threading.get_ident()

    # -- what the script calls ---------------------------------------------------------------------------------

    def ticks(self, key: str) -> Iterator[None]:
        """Begins the loop `key`: an iterator that is asked before each item."""
        if self.dormant and self.sites[key].trains and not is_tracing():
            self._wake_up()
        elsewhere = threading.get_ident() != self._thread or os.getpid() != self._owner
        if self.training is None or elsewhere or self.evaluating or is_tracing():
            self._opening.append(None)
            return repeat(None)
        frame = rewrite.calling_frame()
        loop = RunningLoop(self.sites[key])
        self.training.loop_is_met(loop.site, frame)
        if not self._goes_on():
            self._opening.append(None)
            return repeat(None)
        over = self._match(loop, frame)
        if over is not None:
            self.parent().ended.append(over)
            if over.again:
                self._opening.append(None)
                return repeat(None)
            if not over.by_itself:
                self._left_by_break.add(key)
            self._opening.append(loop)
            loop.index = -1
            self.training.passed_over(over, frame)
            return iter(())
        self._opening.append(loop)
        self.training.loop_opens(loop, frame)
        return self._run(loop, frame)

    def over(self) -> bool:
        """Whether the loop that is just beginning was over already."""
        loop = self._opening[-1]
        if loop is not None and loop.index < 0:
            self._opening.pop()
            return True
        return False

    def items(self, source: Any) -> Iterable[Any]:
        """What the loop goes over, from where it is to begin."""
        loop = self._opening[-1]
        if loop is None or self.training is None:
            self._opening.pop()
            return source  # type: ignore[no-any-return]
        return self.training.begun(loop, source)

    def ended_by_itself(self, key: str) -> bool:
        """Whether the `else` of a loop is to be run."""
        if key in self._left_by_break:
            self._left_by_break.discard(key)
            return False
        ended = self.parent().ended
        if ended and ended[-1].key == key:
            ended[-1].by_itself = True
        return True

    def is_followed(self) -> bool:
        """Whether the loops of this thread are told to a training, or will be."""
        here = threading.get_ident() == self._thread and os.getpid() == self._owner
        return here and (self.dormant or self.training is not None)

    def _goes_on(self) -> bool:
        """Whether there is still a training to be told; it may have stepped aside a moment ago."""
        return self.training is not None

    def _wake_up(self) -> None:
        """The first loop that trains begins: only now is all that a training needs imported."""
        self.dormant = False
        if self.makes_training is not None:
            self.training = self.makes_training(self)

    def begin_anew(self, training: CountedTraining | None) -> None:
        """Nothing is running, and what comes next is told to `training`: each cell of a notebook has its own."""
        self._owner, self._thread = os.getpid(), threading.get_ident()
        self.stack.clear()
        self._opening.clear()
        self._left_by_break.clear()
        self.root = RunningLoop(Site("", "", trains=True))
        self.way_back, self.step_awaited = [], None
        self.stepped = self.steps_seen = self.iterations_are_steps = self.evaluating = False
        self.steps = self.unseen = 0
        self.training, self.dormant = training, False

    def forked(self) -> None:
        """In a child that was forked: a training may begin there, unless the parent's has begun. Never raises."""
        if self.training is not None and not self.training.may_begin_in_a_child():
            return
        self._owner, self._thread = os.getpid(), threading.get_ident()
        self.stack.clear()
        self._opening.clear()
        self.root.ended.clear()
        self.training, self.dormant = None, True

    @staticmethod
    def opening_frame() -> FrameType:
        """Some frame below the script's: its variables are found by going outwards."""
        return rewrite.calling_frame()

    # -- while it runs -----------------------------------------------------------------------------------------

    def _run(self, loop: RunningLoop, frame: FrameType) -> Iterator[None]:
        training = self.training
        assert training is not None
        clock, stack = SYSTEM.monotonic, self.stack
        stack.append(loop)
        trains, by_update, holds_loops = loop.site.trains, loop.site.by_update, loop.site.holds_loops
        ran = False
        try:
            training.entered(loop, frame)
            self._settle(loop)
            while True:
                if not stack or stack[-1] is not loop:
                    self._go_on_with(loop)
                if loop.late is not None and loop.index:
                    training.entered_late(loop, frame)
                if ran and trains and not self.steps_seen and not loop.stepped_inside:
                    if by_update or self.iterations_are_steps:
                        self.stepped = True
                    else:
                        self.unseen += 1
                        self.stepped_in(loop)
                if self.stepped:
                    self.stepped = False
                    self.steps += 1
                    self.stepped_in(loop)
                    if clock() >= training.alarm.wake or loop.index == loop.length:
                        training.boundary(loop, frame)
                elif clock() >= training.alarm.wake:
                    training.boundary(loop, frame)
                loop.index += 1
                if holds_loops and self.training is not None:  # it may have stepped aside at the boundary
                    self._next_iteration(loop, self.training, frame)
                elif loop.ended:
                    loop.ended.clear()
                ran = True  # by this process: one that resumes begins at an index that it has not trained
                yield
        finally:
            self._leave(loop, frame)

    def _settle(self, loop: RunningLoop) -> None:
        """The iterable has been made; what happens from here on is the body's."""
        if loop in self._opening:
            del self._opening[self._opening.index(loop) :]

    def stepped_in(self, loop: RunningLoop) -> None:
        """A step belongs to `loop`, and to no iteration of those around it."""
        for around in self.stack:
            around.stepped_inside = True
        loop.stepped_inside = False

    def _next_iteration(self, loop: RunningLoop, training: CountedTraining, frame: FrameType) -> None:
        if loop.on_the_way:
            if self.going_back and loop.stepped_over:
                training.lost(self.awaited)
            loop.stepped_over = True
        loop.ended.clear()
        loop.stepped_inside = False
        if loop in self.stack:
            training.iteration_begins(loop, frame)

    def _go_on_with(self, loop: RunningLoop) -> None:
        self._cut_to(loop)
        if loop not in self.stack and loop.site.trains and self.training is not None:
            self.training.takes_turns(loop)

    def _cut_to(self, loop: RunningLoop) -> None:
        """Loops above were left by an exception, or wait in a generator."""
        if loop in self.stack:
            del self.stack[self.stack.index(loop) + 1 :]

    def _leave(self, loop: RunningLoop, frame: FrameType) -> None:
        if loop not in self.stack or self.training is None:
            return
        self._cut_to(loop)
        self.stack.pop()
        if loop.late is not None and loop.saved is not None:  # it did not get to its second iteration
            self.way_back.insert(0, loop.saved)
        if not loop.site.trains:
            if self.parent().site.trains:
                self.parent().ended.append(EndedLoop(loop.site.key, again=True))
            return
        self.parent().ended.append(EndedLoop(loop.site.key, effect=self.training.ended(loop, frame)))

    # -- the way back ------------------------------------------------------------------------------------------

    @property
    def going_back(self) -> bool:
        """Whether the place of the checkpoint has not been reached yet."""
        return bool(self.way_back) or self.step_awaited is not None or self._late() is not None

    def _late(self) -> RunningLoop | None:
        """A loop that runs its first iteration once more, which makes what is to be restored."""
        return next((loop for loop in self.stack if loop.late is not None), None)

    @property
    def awaited(self) -> str:
        """The key of the loop that is to begin next on the way back; empty where it is a step."""
        if self.way_back:
            return self.way_back[0].key
        late = self._late()
        return "" if late is None else late.site.key

    def parent(self) -> RunningLoop:
        """The innermost loop that is running; a root where there is none."""
        return self.stack[-1] if self.stack else self.root

    def go_back_to(
        self, ended: Sequence[EndedLoop], running: Sequence[SavedLoop], step: SavedStep | None = None
    ) -> None:
        """The next loops that begin are to be matched with these; `step` is one inside the innermost of them."""
        self.step_awaited = step
        self.root.over_before = list(ended)
        self.way_back = list(running)

    def _match(self, loop: RunningLoop, frame: FrameType) -> EndedLoop | None:
        """Where `loop` is to begin; the loop of an earlier attempt if it was over then."""
        parent, key = self.parent(), loop.site.key
        for number, ended in enumerate(parent.over_before):
            if ended.key == key:
                del parent.over_before[: number + 1]
                return ended
        if self.way_back and self.way_back[0].key == key:
            loop.saved = self.way_back.pop(0)
            loop.innermost = not self.going_back
            loop.on_the_way = not loop.innermost
            loop.over_before = list(loop.saved.ended)
            loop.index = loop.saved.index if loop.innermost else max(0, loop.saved.index - 1)
        return None


_loops = CountedLoops()


def loops() -> CountedLoops:
    """The loops of this process."""
    return _loops
