"""A whole attempt in simulated time: made-up steps, saves and exits under the `Conduct`, `Pacer` and `decide` that ship.

Only the world is made up: how long things take, the guard's thread, the writer's and the governor, in a few lines, on a
number instead of a clock, so that ten thousand boxes take seconds. What is done at a boundary is the session's own
`conduct.py`, with hands that move that number.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator

from backprop_core.deadline.budget import Limit
from backprop_core.deadline.decision import Decision
from backprop_core.deadline.forecast import Forecast, Phase
from backprop_core.deadline.pacing import GOVERNED_END_S, GOVERNED_KILL_S, Asks, Pacer
from backprop_core.outcome import SaveReason
from backprop_core.quick_dataclass import dataclass
from backprop_core.session.conduct import Conduct

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class World:
    """What happens, in seconds.

    Attributes:
        steps: durations of the steps, endless; `FOREVER` is a hang.
        save: duration of the next save.
        exit: duration of the exit.
        copy: duration of a copy into the reused buffers.
        state_bytes: size of a save.
        phase_of: what lies behind step n (an epoch's end, a validation), and how long that takes; None for nothing.
        pause_after: how long the governor pauses the run behind step n; the budget waits.
    """

    steps: Iterator[float]
    save: Callable[[], float]
    exit: Callable[[], float]
    copy: float
    state_bytes: int = 10_000_000
    phase_of: Callable[[int], float | None] = lambda step: None
    pause_after: Callable[[int], float] = lambda step: 0.0


@dataclass(slots=True)
class SimulatedEnding:
    """How a simulated box ended. Times are seconds from its start.

    Attributes:
        budget_s: the deadline.
        saved_at: when the last checkpoint was committed, or None.
        saved_step: the step it holds.
        gone_at: when the process was gone.
        steps: steps that were trained.
        guarded: the guard committed a copy, or the process was ended with a step running.
        last_save_s: what the last save took.
        longest_recent_s: the longest of the last steps.
        copies_s: time spent on copies.
        saves_behind: periodic saves that were begun.
        learnt_last: the last save was made to learn what one costs, and none followed.
        cut_off: what the main thread was at when the guard or the governor ended the process (step, save, exit); empty if
            it left by itself.
    """

    budget_s: float
    saved_at: float | None = None
    saved_step: int = 0
    gone_at: float = 0.0
    steps: int = 0
    guarded: bool = False
    last_save_s: float = 0.0
    longest_recent_s: float = 0.0
    copies_s: float = 0.0
    saves_behind: int = 0
    learnt_last: bool = False
    cut_off: str = ""

    @property
    def late(self) -> bool:
        """The process was there after the deadline, or its last checkpoint was complete after it."""
        return self.gone_at > self.budget_s + 1e-9 or (self.saved_at or 0.0) > self.budget_s + 1e-9

    @property
    def unused_s(self) -> float:
        return self.budget_s - self.gone_at


def simulate(
    world: World,
    budget_s: float,
    forecast: Forecast | None = None,
    *,
    governed: bool = True,
    asked_every_s: float | None = None,
) -> SimulatedEnding:
    """Run one box from second 0 to its end: under a governor, or a block that is left while the process goes on."""
    pacer = Pacer(
        forecast or Forecast(),
        began=0.0,
        budget_s=budget_s,
        governed=governed,
        state_bytes=world.state_bytes,
        asked_every_s=asked_every_s,
    )
    attempt = _Attempt(world, pacer, Limit(budget_s, "the simulation"))
    with contextlib.suppress(_GoneError):
        attempt.train()
    return attempt.ended()


class _GoneError(Exception):
    """The process is no more."""


class _Attempt:
    """A made-up attempt; `Hands` of the conduct that ships."""

    def __init__(self, world: World, pacer: Pacer, deadline: Limit) -> None:
        self.world, self.pacer, self.deadline = world, pacer, deadline
        self.conduct = Conduct(pacer, self)
        self.clock_s = 0.0
        self.ending = SimulatedEnding(deadline.at)
        self.copy_is_saved = False
        self._writing: tuple[float, float, int] | None = None  # ends at, took, step
        self._copy_step: int | None = None
        self._alarm_at = float("inf")
        self._recent: deque[float] = deque(maxlen=32)
        self._doing = "step"
        self._guard_until = 0.0  # the guard commits until then, and a boundary waits for it

    # -- the world ---------------------------------------------------------------------------------------------

    def train(self) -> None:
        self.pacer.goes_on(self.clock_s, Phase.PLAIN)
        while self.conduct.leaving is None:
            after = self.world.phase_of(self.ending.steps)
            self._gap(next(self.world.steps))
            self.ending.steps += 1
            due = self.world.phase_of(self.ending.steps - 1) is not None
            self._boundary(1, Phase.VALIDATION if due else Phase.PLAIN)
            if after is not None and self.conduct.leaving is None:
                self._gap(after, is_step=False)
                self._boundary(0, Phase.PLAIN)
        self._leave()

    def ended(self) -> SimulatedEnding:
        """How it ended; a save that was done by then counts."""
        self.clock_s = self.ending.gone_at
        self._collect()
        self.ending.longest_recent_s = max(self._recent, default=0.0)
        return self.ending

    @property
    def _killed_at(self) -> float:
        """When the guard or the governor ends the process, whatever the main thread does."""
        return self.deadline.at - GOVERNED_END_S if self.pacer.governed else float("inf")

    def _gap(self, gap_s: float, *, is_step: bool = True) -> None:
        """A gap of training, in which the guard may act or the process be ended."""
        end_at = self.clock_s + gap_s
        if end_at > self._alarm_at:
            self._guard_acts(max(self._alarm_at, self.clock_s))
        self._doing = "step"
        self._pass(end_at)
        if is_step:
            self._recent.append(gap_s)

    def _guard_acts(self, at: float) -> None:
        self.ending.guarded = True
        if self._copy_step is None or self._copy_step <= self.ending.saved_step:
            return
        took_s = self.world.save()
        if at + took_s > self._killed_at:  # half written is absent
            return
        self._committed(at + took_s, took_s, self._copy_step)
        self.copy_is_saved = True
        self._guard_until = at + took_s

    def _pass(self, until: float, killed_at: float | None = None) -> None:
        """Time passes, unless the process is ended first; a hang of a block lasts until somebody ends that."""
        if killed_at is None:
            killed_at = self._killed_at
        if until > killed_at or until == FOREVER:
            self.ending.cut_off = self._doing
            self.ending.gone_at = min(killed_at, max(self.deadline.at, self._guard_until))
            raise _GoneError
        self.clock_s = until

    def _boundary(self, steps: int, phase: Phase) -> None:
        came_at = self.clock_s
        self._pass(max(self.clock_s, self._guard_until))
        self._collect()
        self._pause(self.world.pause_after(self.ending.steps) if steps else 0.0)
        facts = self.conduct.at_boundary(came_at, steps, phase)
        if self.conduct.leaving is None:
            self.conduct.goes_on(facts, phase)

    def _pause(self, paused_s: float) -> None:
        if paused_s:
            self.deadline = Limit(self.deadline.at + paused_s, self.deadline.source)
            self.ending.budget_s += paused_s
            self.pacer.budget_s += paused_s
            self._pass(self.clock_s + paused_s)
            self._collect()

    def _leave(self) -> None:
        self.ending.gone_at = self.clock_s
        if self.pacer.governed:
            self._doing = "exit"
            killed_at = self.deadline.at - GOVERNED_KILL_S  # by the governor; the guard's thread is no more
            self._pass(self.clock_s + self.world.exit(), killed_at)
            self.ending.gone_at = self.clock_s

    def _collect(self) -> None:
        if self._writing is not None and self._writing[0] <= self.clock_s:
            ended_at, took_s, step = self._writing
            self._writing = None
            self._committed(ended_at, took_s, step)

    def _committed(self, ended_at: float, took_s: float, step: int) -> None:
        self.pacer.forecast.observe_save(self.world.state_bytes, took_s)
        if step > self.ending.saved_step:
            self.ending.saved_at, self.ending.saved_step = ended_at, step
            self.ending.last_save_s = took_s

    # -- the hands ---------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.clock_s

    def asks(self) -> Asks:
        return Asks(save_in_flight=self._writing is not None)

    def wait(self) -> None:
        if self._writing is not None:
            self._pass(max(self.clock_s, self._writing[0]))
            self._collect()

    def save_now(self, reason: SaveReason) -> bool:
        self._doing = "save"
        self.wait()
        took_s = self.world.save()
        self._pass(self.clock_s + took_s)
        self._committed(self.clock_s, took_s, self.ending.steps)
        self.ending.learnt_last = reason is SaveReason.PERIODIC
        return True

    def save_behind(self, reason: SaveReason) -> bool:
        if self._writing is not None:
            return False
        took_s = self.world.save()
        self._pass(self.clock_s + self.world.copy)
        self._copy_step = None
        self._writing = (self.clock_s + took_s, took_s, self.ending.steps)
        self.ending.learnt_last = False
        self.ending.saves_behind += 1
        return True

    @property
    def may_copy(self) -> bool:
        return self._writing is None

    def copy(self, *, whole: bool) -> float | None:
        self._pass(self.clock_s + self.world.copy)
        self.ending.copies_s += self.world.copy
        self._copy_step = self.ending.steps
        return self.world.copy

    def arm(self, alarm_at: float) -> None:
        self.copy_is_saved = False
        self._alarm_at = alarm_at

    def stopping(self, verdict: Decision) -> None:
        self._alarm_at = float("inf")

    def warn(self, text: str) -> None:
        """Nobody listens."""
