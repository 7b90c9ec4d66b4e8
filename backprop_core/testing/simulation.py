"""A whole attempt in simulated time: made-up steps, saves and exits, judged by the real `Pacer` and `decide`.

It plays the parts of `Session`, `Guard`, writer thread and governor in a few lines, on a number instead of a clock, so that
ten thousand boxes take seconds. What is simulated is the world; what is judged is the code that ships.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backprop_core.deadline.budget import Limit
from backprop_core.deadline.decision import Action, Facts, decide
from backprop_core.deadline.forecast import Forecast, Phase
from backprop_core.deadline.pacing import GOVERNED_END_S, Asks, Pacer

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
class Ending:
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

    @property
    def late(self) -> bool:
        """The process was there after the deadline, or its last checkpoint was complete after it."""
        return self.gone_at > self.budget_s + 1e-9 or (self.saved_at or 0.0) > self.budget_s + 1e-9

    @property
    def unused_s(self) -> float:
        return self.budget_s - self.gone_at


def simulate(world: World, budget_s: float, forecast: Forecast | None = None) -> Ending:
    """Run one box under a governor from second 0 to its end."""
    forecast = forecast or Forecast()
    pacer = Pacer(forecast, began=0.0, budget_s=budget_s, governed=True, state_bytes=world.state_bytes)
    return _Attempt(world, pacer, Limit(budget_s, "the simulation")).run()


class _Attempt:
    def __init__(self, world: World, pacer: Pacer, deadline: Limit) -> None:
        self.world, self.pacer, self.deadline = world, pacer, deadline
        self.now = 0.0
        self.ending = Ending(deadline.at)
        self.writing: tuple[float, float, int] | None = None  # ends at, took, step
        self.copy_step: int | None = None
        self.committed = False
        self.recent: deque[float] = deque(maxlen=32)
        self.waits_until = 0.0  # the guard commits until then, and a boundary waits for it

    def run(self) -> Ending:
        phase = Phase.PLAIN
        self.pacer.goes_on(self.now, phase)
        while True:
            after = self.world.phase_of(self.ending.steps)
            for gap_s, is_step in ((next(self.world.steps), True), (after, False)):
                if gap_s is None:
                    continue
                if not self._gap(gap_s, is_step):
                    return self._ended()
                due = is_step and self.world.phase_of(self.ending.steps - 1) is not None
                if not self._boundary(1 if is_step else 0, Phase.VALIDATION if due else Phase.PLAIN):
                    return self._ended()

    def _ended(self) -> Ending:
        if self.writing is not None and self.writing[0] <= self.ending.gone_at:
            self.now = self.ending.gone_at
            self._collect()
        self.ending.longest_recent_s = max(self.recent, default=0.0)
        return self.ending

    def _gap(self, gap_s: float, is_step: bool) -> bool:
        """A gap of training; False if the guard or the governor ended the process in it."""
        trigger_at = self.pacer.trigger_at(self.deadline.at)
        end_at = self.now + gap_s
        if end_at <= trigger_at:
            self.now = end_at
        else:
            before = (self.ending.saved_at, self.ending.saved_step)
            saved = self._commit_copy(max(trigger_at, self.now))
            last_at = self.deadline.at - GOVERNED_END_S
            self.ending.guarded = self.committed = True
            if saved is not None and saved > last_at:  # the governor ends the process first
                self.ending.saved_at, self.ending.saved_step = before
            if max(end_at, saved or 0.0) >= last_at:
                self.ending.gone_at = last_at
                return False
            self.now, self.waits_until = end_at, max(end_at, saved or 0.0)
        if is_step:
            self.ending.steps += 1
            self.recent.append(gap_s)
        return True

    def _commit_copy(self, at: float) -> float | None:
        if self.copy_step is None or self.copy_step <= self.ending.saved_step:
            return None
        took_s = self.world.save()
        self.ending.saved_at, self.ending.saved_step = at + took_s, self.copy_step
        self.ending.last_save_s = took_s
        self.pacer.forecast.observe_save(self.world.state_bytes, took_s)
        return at + took_s

    def _boundary(self, steps: int, phase: Phase) -> bool:
        pacer = self.pacer
        pacer.passed(self.now, steps)
        self.now = max(self.now, self.waits_until)
        self._collect()
        self._pause(self.world.pause_after(self.ending.steps) if steps else 0.0)
        verdict = decide(self._facts(phase))
        if verdict.action is Action.WAIT and self.writing is not None:
            self.now = max(self.now, self.writing[0])
            self._collect()
            verdict = decide(self._facts(phase))
        if verdict.action is Action.SAVE_AND_WAIT:
            if not self._save_now():
                return False
            verdict = decide(self._facts(phase))
        if verdict.action is Action.SAVE:
            took_s = self.world.save()
            self._copy()
            self.copy_step = None
            self.writing = (self.now + took_s, took_s, self.ending.steps)
            pacer.saved(self.now)
        elif verdict.action is Action.STOP:
            return self._stop()
        if self.writing is None and pacer.copy_now(self.now, self._facts(phase)):
            self._copy()
            pacer.copied(self.now, self.world.copy)
            self.ending.copies_s += self.world.copy
            self.copy_step = self.ending.steps
        pacer.goes_on(self.now, phase)
        self.committed = False
        return True

    def _pause(self, paused_s: float) -> None:
        if paused_s:
            self.now += paused_s
            self._collect()
            self.deadline = Limit(self.deadline.at + paused_s, self.deadline.source)
            self.ending.budget_s += paused_s
            self.pacer.budget_s += paused_s

    def _facts(self, phase: Phase) -> Facts:
        return self.pacer.facts(
            self.now, self.deadline, phase, None, Asks(save_in_flight=self.writing is not None)
        )

    def _copy(self) -> None:
        self.now += self.world.copy

    def _collect(self) -> None:
        if self.writing is not None and self.writing[0] <= self.now:
            ended_at, took_s, step = self.writing
            self.writing = None
            self.pacer.forecast.observe_save(self.world.state_bytes, took_s)
            if step > self.ending.saved_step:
                self.ending.saved_at, self.ending.saved_step = ended_at, step
                self.ending.last_save_s = took_s

    def _save_now(self) -> bool:
        """A save in the main thread; False if the guard ended the process in the middle of it."""
        if self.writing is not None:
            self.now = max(self.now, self.writing[0])
            self._collect()
        took_s = self.world.save()
        self.now += took_s
        last_at = self.deadline.at - GOVERNED_END_S
        if self.now > last_at:
            self.ending.gone_at = last_at
            return False
        self.pacer.forecast.observe_save(self.world.state_bytes, took_s)
        self.pacer.saved(self.now)
        self.ending.last_save_s = took_s
        self.ending.saved_at, self.ending.saved_step = self.now, self.ending.steps
        return True

    def _stop(self) -> bool:
        left_out = self.committed and not self.pacer.save_is_worth_trying(self.deadline.at - self.now)
        if not left_out and not self.pacer.save_is_hopeless() and not self._save_now():
            return False
        self.ending.gone_at = min(self.now + self.world.exit(), self.deadline.at)
        return False
