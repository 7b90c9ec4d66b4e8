"""The engine's judgement: when to save, when to stop, when to copy for the guard. Pure: it is told the time.

`Session` acts on it with real saves and threads; the simulation in the tests acts on it with made-up ones. That is how ten
thousand boxes are proven in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import field
from enum import Enum

from backprop_core.deadline.budget import Limit
from backprop_core.deadline.decision import BoundaryFacts, Leave
from backprop_core.deadline.forecast import Forecast, Phase
from backprop_core.deadline.save_interval import interval_s
from backprop_core.quick_dataclass import dataclass

FIRST_SAVE_SHARE = 0.03
"""The first periodic save comes after this part of the budget, to learn what a save costs."""
FIRST_SAVE_AT_MOST_S = 30.0
EARLY_SHARE = 0.5
COPY_SHARE = 0.01
"""Of the attempt's time, at most this part goes into copies for the guard, and as much into those that survive."""
COPIES_JUDGED = 5
"""The next copy is taken to cost what the median of so many did: a machine that was busy once is no reason to wait."""
COPIES_AFTER_STEPS = 3
"""By then an optimizer has all of its state, and the memory for copies is there."""
ZONE_S = 30.0
ZONE_STEPS = 20.0
"""The end zone begins this many steps, and at least this many seconds, before the last instant for a save."""
TRY_AGAIN_S = 1.0
"""So long, or a quarter of a save, after one that failed the next is tried, where its cost is still to be learnt."""
GOVERNED_END_S = 0.2
"""Under a governor the process ends this long before the deadline, come what may: the governor kills soon after."""
GOVERNED_KILL_S = 0.12
"""When the governor kills, before the deadline: see supervision/plan.py."""


class CopyFor(Enum):
    """Whose allowance a copy of the state is paid from; it serves both."""

    GUARD = "guard"
    SURVIVOR = "survivor"


@dataclass(slots=True)
class Asks:
    """What is asked of this boundary from outside.

    Attributes:
        leave: a request to end.
        commit_first: a signal came, and no checkpoint has been committed since.
        save: a checkpoint was asked for.
        window_s: seconds to the end of an open accumulation window; 0 if none is open.
        save_in_flight: the writer thread is busy.
    """

    leave: Leave | None = None
    commit_first: bool = False
    save: bool = False
    window_s: float = 0.0
    save_in_flight: bool = False


@dataclass(slots=True)
class Pacer:
    """Judges one attempt.

    Attributes:
        forecast: upper bounds from what was seen.
        began: when the attempt began, on the monotonic clock.
        budget_s: seconds from then to the earliest deadline.
        governed: whether the process has to be gone at the deadline, not only the loop left.
        start_up_s: seconds of the attempt before `began`: interpreter, imports, data.
        leave_s: upper bound for what a framework does between the last save and giving the script its turn again.
        asked_every_s: the periodic interval that the user asked for, or None.
        state_bytes: size of a save.
        put_off: periodic saves that had to wait for the one before, which was still being written when they were due.
        lost_s: for how long the last periodic save held training up, the rest being done in the background; None before.
        read_behind_s: what the writer's thread reads of the training's memory costs training, seconds, as if it were copied.
        repeats: the last periodic save has to be made again.
        copy_s: what the last copy of the state took; copy_least_s what the quickest did: one that a busy machine has
            held up says little about the next.
        survives: copies of the state survive this process, so they are made all through the box.
        fits_no_box_s: a gap longer than the whole box is expected, seconds; 0 while none is. Stopping before it would stop
            every attempt at the same place, so in the first half of a box it is begun, and the guard sees to the rest.
        longest_between_s: of the steps between this look and the last one, where somebody has timed each of them, seconds.
    """

    forecast: Forecast
    began: float
    budget_s: float
    governed: bool = False
    survives: bool = False
    start_up_s: float = 0.0
    leave_s: float = 0.02
    asked_every_s: float | None = None
    state_bytes: int = 0
    lost_s: float | None = None
    read_behind_s: float = 0.0
    repeats: bool = False
    copy_s: float = 0.0
    copy_least_s: float = math.inf
    steps: int = 0
    copies_spent_s: float = 0.0
    phase: Phase = Phase.FIRST
    last_boundary: float = 0.0
    last_save: float = 0.0
    last_copy: float = field(default=float("-inf"))
    fits_no_box_s: float = 0.0
    longest_between_s: float = math.inf
    put_off: int = 0
    last_failure: float = field(default=float("-inf"))
    _recent_copies_s: deque[float] = field(default_factory=lambda: deque(maxlen=COPIES_JUDGED))
    _waits_for_writer: bool = False
    _start_up_is_spent: bool = False

    def __post_init__(self) -> None:
        self.last_boundary = self.last_save = self.began

    # -- the time that passes ----------------------------------------------------------------------------------

    def passed(self, now: float, steps: int, *, paused_s: float = 0.0) -> None:
        """A boundary was reached at `now`, `steps` steps after the last one."""
        if steps or self.phase is not Phase.PLAIN:
            self.steps += steps
            gap_s = max(0.0, now - self.last_boundary - paused_s)
            if self.phase is Phase.PLAIN:  # else what lies between is no step, and is there only once
                gap_s = min(gap_s, self.longest_between_s)
            self.longest_between_s = math.inf
            self.forecast.observe_gap(self.phase, gap_s, steps)

    def goes_on(self, now: float, phase: Phase) -> None:
        """The loop goes on at `now`; `phase` lies between here and the next boundary."""
        self.phase = Phase.FIRST if self.steps == 0 and phase is Phase.PLAIN else phase
        self.last_boundary = now

    def saved(self, now: float, lost_s: float | None = None) -> None:
        """A save was begun, made, or given up at `now`; in the background, it held training up for `lost_s` seconds."""
        self.last_save = now
        self.repeats = False
        if lost_s is not None:
            self.lost_s = lost_s
        self.put_off += self._waits_for_writer
        self._waits_for_writer = False

    def repeat(self) -> None:
        """The save in the background found that too little had been copied for it: the next boundary makes it again."""
        self.repeats = True

    def failed(self, now: float) -> None:
        """A save has failed: the next interval tries again."""
        self.saved(now)
        self.last_failure = now

    # -- judgement ---------------------------------------------------------------------------------------------

    def save_s(self) -> float:
        """Upper bound for a synchronous save, seconds."""
        return self.forecast.save_bound_s(self.state_bytes)

    def exit_s(self) -> float:
        """Upper bound for what comes after the save, seconds."""
        if not self.governed:  # no process has to end, so no reserve for that covers a save that takes longer
            return self.leave_s + self.forecast.unsure_save_s(self.state_bytes)
        return self.leave_s + max(self.forecast.exit_bound_s() + GOVERNED_KILL_S, GOVERNED_END_S)

    def save_is_worth_trying(self, remaining_s: float) -> bool:
        """Whether a save that begins now may still end in time; one that does not costs nothing that is on disk."""
        ends_s = GOVERNED_END_S if self.governed else 0.0
        return remaining_s >= self.forecast.save_likely_s(self.state_bytes) + ends_s

    def save_is_hopeless(self) -> bool:
        """A measured save takes longer than the whole box: no stop can be early enough."""
        return self.forecast.saves_seen > 0 and self.save_s() + self.exit_s() >= self.budget_s

    def facts(
        self, now: float, deadline: Limit, phase: Phase, then: Phase | None, asks: Asks
    ) -> BoundaryFacts:
        """All that a decision at `now` needs; `then` is what follows at once behind `phase` and must fit, too."""
        forecast = self.forecast
        gap_s = forecast.gap_bound_s(phase) if self.steps else 0.0
        if then is not None:
            gap_s += forecast.gap_bound_s(then)
        save_s = 0.0 if self.save_is_hopeless() else self.save_s()
        remaining_s = deadline.at - now
        save_due = self._save_due(now, remaining_s, save_s)
        self._waits_for_writer |= save_due and asks.save_in_flight
        if gap_s + save_s + self.exit_s() > self.budget_s:
            self.fits_no_box_s = gap_s
            if now - self.began <= EARLY_SHARE * self.budget_s:
                gap_s = 0.0
        return BoundaryFacts(
            remaining_s=remaining_s,
            gap_s=gap_s,
            window_s=asks.window_s,
            finish=phase is Phase.LOOP_END,
            save_s=save_s + (self._flight_rest_s(now + gap_s, save_s) if asks.save_in_flight else 0.0),
            exit_s=self.exit_s(),
            save_known=forecast.saves_seen > 0,
            save_failed_lately=now < self._try_again_at(),
            leave=asks.leave,
            commit_first=asks.commit_first,
            save_asked=asks.save,
            save_due=save_due,
            save_in_flight=asks.save_in_flight,
            deadline=deadline.source,
        )

    def _flight_rest_s(self, at: float, save_s: float) -> float:
        """What the save in flight may still need at the instant `at`, seconds."""
        return max(0.0, self.last_save + save_s - at)

    def _save_due(self, now: float, remaining_s: float, save_s: float) -> bool:
        if self.steps == 0 or (now < self._next_save_at() and not self.repeats):
            return False
        if self._first_save_is_to_come():
            return self.steps >= 3
        return remaining_s > self._least_for_periodic_s(save_s)

    def _least_for_periodic_s(self, save_s: float) -> float:
        """With less time than this left no periodic save is begun: the one at the deadline is near, or it cannot end."""
        if self.save_is_hopeless():
            return self.forecast.save_likely_s(self.state_bytes) + self.exit_s()
        return 3 * save_s + self.exit_s()

    def _first_save_is_to_come(self) -> bool:
        return self.forecast.saves_seen == 0 and self.last_save == self.began

    def _next_save_at(self) -> float:
        if self._first_save_is_to_come():
            share_s = FIRST_SAVE_SHARE * self.budget_s
            return self.began + min(share_s, FIRST_SAVE_AT_MOST_S, self.asked_every_s or math.inf)
        if self.asked_every_s is not None:
            return self.last_save + interval_s(0.0, self.asked_every_s)
        save_s = self.save_s()
        lost_s = save_s if self.lost_s is None else min(self.lost_s, save_s)
        return self.last_save + max(interval_s(max(lost_s, 1e-3) + self.read_behind_s), save_s)

    def next_save_s(self, now: float, remaining_s: float) -> float | None:
        """Seconds until the next periodic save is due; None if the one at the deadline comes first."""
        save_s = 0.0 if self.save_is_hopeless() else self.save_s()
        wait_s = max(0.0, self._next_save_at() - now)
        return None if remaining_s - wait_s <= self._least_for_periodic_s(save_s) else wait_s

    # -- the guard ---------------------------------------------------------------------------------------------

    def trigger_at(self, deadline_at: float) -> float:
        """The last instant at which a save can still begin; while none got through, not at once after a failed one."""
        latest_at = deadline_at - self.save_s() - self.exit_s()
        return latest_at if self.forecast.saves_seen else max(latest_at, self._try_again_at())

    def _try_again_at(self) -> float:
        return self.last_failure + max(TRY_AGAIN_S, self.save_s() / 4)

    def in_zone(self, remaining_s: float, gap_s: float) -> bool:
        """Whether the deadline is so near that boundaries copy the state."""
        return remaining_s <= max(ZONE_S, ZONE_STEPS * gap_s) + self.save_s() + self.exit_s()

    def copy_now(self, now: float, facts: BoundaryFacts) -> CopyFor | None:
        """Whether this boundary is to copy the state, and for whom. No copy is made where it would take a step's place."""
        if facts.remaining_s < facts.reserve_s + self.copy_s:
            return None
        if self._survivor_is_due(now):
            return CopyFor.SURVIVOR
        return CopyFor.GUARD if self._guard_wants_one(now, facts) else None

    def _survivor_is_due(self, now: float) -> bool:
        """Whether so much time has gone by since the last copy that another one stays within its share of it."""
        if not self.survives or self.steps < COPIES_AFTER_STEPS:
            return False
        costs_s = self.copy_costs_s()
        return now - self.last_copy >= costs_s / COPY_SHARE or self._start_up_pays(now, costs_s)

    def _start_up_pays(self, now: float, costs_s: float) -> bool:
        """Whether another of the first copies fits into the share of the whole attempt.

        The first is the slowest, so a hundred times what it took is too long to wait; in the time that it took to start
        up nothing of the share was spent.
        """
        recent = self._recent_copies_s
        if len(recent) == COPIES_JUDGED or self._start_up_is_spent:
            return False
        return sum(recent) + costs_s <= COPY_SHARE * (self.start_up_s + now - self.began)

    def copy_costs_s(self) -> float:
        """What the next copy is taken to cost, seconds; 0 before the first."""
        recent = self._recent_copies_s
        if len(recent) < COPIES_JUDGED:  # the first are the slowest
            return min(recent, default=0.0)
        from statistics import median  # late: it brings decimal fractions along

        return median(recent)

    def _guard_wants_one(self, now: float, facts: BoundaryFacts) -> bool:
        """Whether the deadline is near and a copy can be afforded.

        Copies may take 1% of the attempt's time. If that is enough for every boundary that is still to come, each makes
        one; otherwise what is left is spread evenly, so that the loss to a hang is about the same whenever it comes.
        """
        if not self.in_zone(facts.remaining_s, facts.gap_s):
            return False
        left_s = facts.remaining_s - facts.save_s - facts.exit_s
        if left_s <= 0:
            return False
        allowance_s = COPY_SHARE * (now - self.began + left_s) - self.copies_spent_s
        if self.copy_s <= 0:
            return True
        affordable = allowance_s / self.copy_least_s
        if affordable < 1:
            return False
        to_come = left_s / max(self.forecast.longest_step_s(), 1e-6)
        return affordable >= to_come or now - self.last_copy >= left_s / affordable

    def copy_soon(self) -> None:
        """The copies for a survivor are lost: the next boundary makes one."""
        self.last_copy = float("-inf")

    def copy_later(self, now: float) -> None:
        """The one copy that is left at `now` is better not renewed at once: only when its share of the time has gone by."""
        self.last_copy = now
        self._start_up_is_spent = True

    def copied(self, now: float, copy_s: float, whose: CopyFor = CopyFor.GUARD) -> None:
        """A copy was made, and took `copy_s` seconds."""
        self.copy_s = copy_s
        self._recent_copies_s.append(copy_s)
        self.copy_least_s = min(self.copy_least_s, max(copy_s, 1e-9))
        self.copies_spent_s += copy_s if whose is CopyFor.GUARD else 0.0
        self.last_copy = now
