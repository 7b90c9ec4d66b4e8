"""The loops of a rewritten script while they run: which are running, how far each is, and which ended before.

A loop that begins is matched with the position of an earlier attempt, if there is one to go back to: a loop that was over
is passed over, one that was running begins where it stood, and with the innermost of those the script is where it was.
What a boundary means is none of this file's business: it asks its `Training`, see `script_training.py`.
"""

from __future__ import annotations

import builtins
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from backprop_core.clock import SYSTEM
from backprop_core.loop.asked_iterators import asked_iterators
from backprop_core.script_state import rewrite
from backprop_core.script_state.rewrite import Site

if TYPE_CHECKING:
    from backprop_core.loop.script_steps import SavedStep


@dataclass(slots=True)
class EndedLoop:
    """A loop that ended inside the running iteration of the loop around it.

    Attributes:
        by_itself: it came to its end, so its `else` was run; otherwise it was left.
        effect: the state just behind it: all of it where more training may follow in the same iteration, else the small
            variables; None where that was not worth taking.
        again: an evaluation: what it gives is used by the code behind it, so it runs again on the way back.
    """

    key: str
    by_itself: bool = False
    effect: Any = None
    again: bool = False


@dataclass(slots=True)
class SavedLoop:
    """A running loop as a checkpoint remembers it.

    Attributes:
        index: iterations that are over.
        opening: what its iterable needs to be begun again.
        entry: small state at the start of the iteration that was running; None for the innermost.
        steps_before: training steps that had been taken when it began; None where a checkpoint does not say.
    """

    key: str
    index: int
    ended: list[EndedLoop] = field(default_factory=list)
    opening: Any = None
    entry: Any = None
    steps_before: int | None = None


@dataclass(slots=True, eq=False)
class RunningLoop:
    """A loop that is running.

    Attributes:
        index: iterations begun.
        length: how many there will be, where it is known.
        ended: loops that have ended inside the running iteration.
        over_before: those that had when the checkpoint was made and have not come by yet.
        readings: the loaders that it goes over, in the order in which they were begun.
        asked: the generators and other iterators that it asks.
        entry: small state as it was when the running iteration began; None where it was not worth taking.
        on_the_way: it was running around the innermost one when the checkpoint was made; stepped_over: its interrupted
            iteration has begun again.
        late: its items from the first one on: what is to be restored is made by its first iteration, which runs once more.
        stepped_inside: a loop inside has counted a step in the running iteration.
        since: when the running iteration began.
        began: when the loop began.
        there: what the script's variables held then, by identity; None where it was not worth looking.
        steps_before: training steps that had been taken when it began in all attempts; None where that is not known.
    """

    site: Site
    index: int = 0
    length: int | None = None
    ended: list[EndedLoop] = field(default_factory=list)
    over_before: list[EndedLoop] = field(default_factory=list)
    random: Any = field(default=None, repr=False)
    readings: list[Any] = field(default_factory=list, repr=False)
    asked: list[Any] = field(default_factory=list, repr=False)
    saved: SavedLoop | None = None
    innermost: bool = False
    on_the_way: bool = False
    stepped_over: bool = False
    late: Iterator[Any] | None = field(default=None, repr=False)
    entry: Any = field(default=None, repr=False)
    stepped_inside: bool = False
    since: float = 0.0
    began: float = 0.0
    there: frozenset[int] | None = field(default=None, repr=False)
    steps_before: int | None = None


class Training(Protocol):
    """Who is told what the loops do."""

    alarm: Any
    """Its `wake` is the instant (monotonic) from which on a boundary must be told."""

    def loop_is_met(self, site: Site, frame: FrameType) -> None:
        """A loop is about to begin; it has not been matched with an earlier attempt's yet."""
        ...

    def loop_opens(self, loop: RunningLoop, frame: FrameType) -> None:
        """Before the iterable of `loop` is made."""
        ...

    def begun(self, loop: RunningLoop, source: Any) -> Iterable[Any]:
        """The items of `loop`, from where it is to begin."""
        ...

    def entered(self, loop: RunningLoop, frame: FrameType) -> None:
        """Just before the first item; a loop that goes on from a checkpoint is in the stack now."""
        ...

    def entered_late(self, loop: RunningLoop, frame: FrameType) -> None:
        """Behind the first iteration of a loop that is `late`."""
        ...

    def boundary(self, loop: RunningLoop, frame: FrameType) -> None:
        """Between two iterations of `loop`, when it is time."""
        ...

    def iteration_begins(self, loop: RunningLoop, frame: FrameType) -> None:
        """The next iteration of a loop that holds other training loops."""
        ...

    def passed_over(self, ended: EndedLoop, frame: FrameType) -> None:
        """A loop that was over is left out."""
        ...

    def ended(self, loop: RunningLoop, frame: FrameType | None) -> Any:
        """A loop has ended; what is to be kept of its effect."""
        ...

    def may_begin_in_a_child(self) -> bool:
        """Whether no session is open here, so that a child that is forked may train."""
        ...

    def takes_turns(self, loop: RunningLoop) -> None:
        """`loop` goes on although another one that is not inside it has gone on in the meantime."""
        ...

    def lost(self, key: str) -> None:
        """The loop that was to go on did not begin."""
        ...


class CountedLoops:
    """All loops of the process that are counted; those of the main thread.

    Attributes:
        way_back: running loops of an earlier attempt, the outermost first, that have not begun again yet.
        step_awaited: the checkpoint was made inside an optimizer step, which is to be taken once more.
        evaluating: a step is calling the function that it was given; loops in there are not counted.
        stepped: a training step was taken since the last boundary.
        steps: training steps taken in all.
        iterations_are_steps: nobody can tell of steps, so an iteration of the innermost training loop is one.
        dormant: no loop that trains has begun yet.
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
        self.steps = 0
        self.steps_seen = False
        self.iterations_are_steps = False
        self.training: Training | None = None
        self.dormant = False
        self._opening: list[RunningLoop | None] = []
        self._left_by_break: set[str] = set()
        self._owner = os.getpid()
        self._thread = threading.get_ident()

    # -- what the script calls ---------------------------------------------------------------------------------

    def ticks(self, key: str) -> Iterator[None]:
        """Begins the loop `key`: an iterator that is asked before each item."""
        if self.dormant and self.sites[key].trains:
            self._wake_up()
        elsewhere = threading.get_ident() != self._thread or os.getpid() != self._owner
        if self.training is None or elsewhere or self.evaluating:
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

    def _goes_on(self) -> bool:
        """Whether there is still a training to be told; it may have stepped aside a moment ago."""
        return self.training is not None

    def _wake_up(self) -> None:
        """The first loop that trains begins: only now is all that a training needs imported."""
        self.dormant = False
        from backprop_core.loop.script_training import ScriptTraining

        self.training = ScriptTraining(self)

    def begin_anew(self, training: Training | None) -> None:
        """Nothing is running, and what comes next is told to `training`: each cell of a notebook has its own."""
        self._owner, self._thread = os.getpid(), threading.get_ident()
        self.stack.clear()
        self._opening.clear()
        self._left_by_break.clear()
        self.root = RunningLoop(Site("", "", trains=True))
        self.way_back, self.step_awaited = [], None
        self.stepped = self.steps_seen = self.iterations_are_steps = self.evaluating = False
        self.steps = 0
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
        counts, holds_loops = loop.site.by_update or self.iterations_are_steps, loop.site.holds_loops
        counts, ran = counts and loop.site.trains, False
        try:
            training.entered(loop, frame)
            self._settle(loop)
            while True:
                if not stack or stack[-1] is not loop:
                    self._go_on_with(loop)
                if loop.late is not None and loop.index:
                    training.entered_late(loop, frame)
                if counts and ran and not loop.stepped_inside and not self.steps_seen:
                    self.stepped = True
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

    def _next_iteration(self, loop: RunningLoop, training: Training, frame: FrameType) -> None:
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
        if not loop.site.trains:
            if self.parent().site.trains:
                self.parent().ended.append(EndedLoop(loop.site.key, again=True))
            return
        self.parent().ended.append(EndedLoop(loop.site.key, effect=self.training.ended(loop, frame)))

    # -- the way back ------------------------------------------------------------------------------------------

    @property
    def going_back(self) -> bool:
        """Whether the place of the checkpoint has not been reached yet."""
        return bool(self.way_back) or self.step_awaited is not None

    @property
    def awaited(self) -> str:
        """The key of the loop that is to begin next on the way back; empty where it is a step."""
        return self.way_back[0].key if self.way_back else ""

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


def install(sites: Iterable[Site], *, main: bool) -> None:
    """Make the names that rewritten code calls known to it, and `sites` to the loops."""
    _loops.sites.update({site.key: site for site in sites})
    if hasattr(builtins, rewrite.TICKS):
        return
    asked = asked_iterators()
    names: Mapping[str, Any] = {
        rewrite.TICKS: _loops.ticks,
        rewrite.OVER: _loops.over,
        rewrite.ITEMS: _loops.items,
        rewrite.ELSE: _loops.ended_by_itself,
        rewrite.MAP: map,
        rewrite.GET: {}.get,
        rewrite.SINK: _Sink(),
        rewrite.ASKED: asked.ask,
        rewrite.LOOPED: asked.counted,
        rewrite.OTHER: asked.other,
    }
    for name, value in names.items():
        setattr(builtins, name, value)
    from backprop_core.session import attach_rules

    attach_rules.loops_are_counted()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_loops.forked)
    _loops.dormant = True


class _Sink:
    """Takes the target of a loop that has none: a `while` loop."""

    __slots__ = ("tick",)
