"""Decide and do: what an attempt does at a boundary, against a port of hands.

`Pacer` and `decide` judge, the hands act: a session's save to a disk, copy into memory and wait for threads; those of
`testing/simulation.py` move a number. The order in which the one follows from the other is here, once, so that what ten
thousand simulated boxes prove is what ships.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from backprop_core.deadline.budget import Limit, duration_text
from backprop_core.deadline.decision import BoundaryAction, BoundaryFacts, Decision, Leave, decide
from backprop_core.deadline.forecast import Phase
from backprop_core.deadline.pacing import Asks, Pacer
from backprop_core.outcome import Outcome, SaveReason


class Hands(Protocol):
    """What a decision needs to know, and what it can have done. Saves that fail are reported by the hands."""

    @property
    def deadline(self) -> Limit:
        """The earliest deadline, on the same clock as `now`."""
        ...

    @property
    def copy_is_saved(self) -> bool:
        """The guard has committed the copy of the last boundary, because the step behind it took too long."""
        ...

    def now(self) -> float:
        """Seconds on a monotonic clock."""
        ...

    def asks(self) -> Asks:
        """What is asked from outside, and whether a save is in flight."""
        ...

    def wait(self) -> None:
        """Wait for the save in flight and take in what it cost."""
        ...

    def save_now(self, reason: SaveReason) -> bool:
        """Save, and return when it is on disk; False if that failed."""
        ...

    def save_behind(self, reason: SaveReason) -> bool:
        """Copy the state and have it saved in the background; False if none was begun."""
        ...

    @property
    def may_copy(self) -> bool:
        """Whether there is memory for a copy that nothing reads now."""
        ...

    def copy(self, *, whole: bool) -> float | None:
        """Copy the state for the guard; the seconds it took, or None if it could not be copied.

        Args:
            whole: every byte of it; else not those large arrays that show no change since a copy before.
        """
        ...

    def arm(self, alarm_at: float) -> None:
        """From `alarm_at` on the guard commits the copy, unless a boundary comes first."""
        ...

    def stopping(self, verdict: Decision) -> None:
        """The loop is about to be left: the guard stands down."""
        ...

    def warn(self, text: str) -> None:
        """Tell people; the same sentence once."""
        ...


class Conduct:
    """One attempt's conduct.

    Attributes:
        leaving: why the loop has to be left, or None.
        reserve_kept_s: seconds that were left when the last save began; None before.
    """

    def __init__(self, pacer: Pacer, hands: Hands) -> None:
        self._pacer = pacer
        self._hands = hands
        self._looked = Decision(BoundaryAction.CONTINUE)
        self.leaving: Decision | None = None
        self.reserve_kept_s: float | None = None

    # -- a boundary --------------------------------------------------------------------------------------------

    def at_boundary(
        self, came_at: float, steps: int, phase: Phase, then: Phase | None = None, *, held_s: float = 0.0
    ) -> BoundaryFacts:
        """Decide and do it; the facts that the last decision rested on. `leaving` says whether training goes on.

        Args:
            came_at: when the boundary was reached, on the clock of the hands.
            steps: how many since the last one.
            phase: what lies between this boundary and the next; `then` is what follows at once and must fit as well.
            held_s: seconds since the last one in which the process was held from outside.
        """
        pacer, hands = self._pacer, self._hands
        pacer.passed(came_at, steps, paused_s=held_s)
        facts = self._facts(phase, then)
        verdict = decide(facts)
        if verdict.action is BoundaryAction.WAIT:
            hands.wait()
            facts = self._facts(phase, then)
            verdict = decide(facts)
        saved = False
        if verdict.action is BoundaryAction.SAVE_AND_WAIT:
            saved = self.save_now(verdict.reason)
            facts = self._facts(phase, then)
            verdict = decide(facts)
        if pacer.fits_no_box_s:
            hands.warn(
                f"The next part of the training took up to {duration_text(pacer.fits_no_box_s)} before; with the save "
                f"that is more than this whole box of {duration_text(pacer.budget_s)}. Give it more time."
            )
        if verdict.action is BoundaryAction.SAVE:
            began = hands.now()
            if hands.save_behind(verdict.reason):
                pacer.saved(hands.now(), lost_s=hands.now() - began)
        elif verdict.action is BoundaryAction.STOP:
            self._stop(verdict, saved=saved)
        return facts

    def goes_on(self, facts: BoundaryFacts, phase: Phase) -> None:
        """Training goes on: copy for the guard where that is due, and give it the instant at which it must act."""
        pacer, hands = self._pacer, self._hands
        now = hands.now()
        why = pacer.copy_now(now, facts)
        if why is not None and hands.may_copy:
            # Near the deadline the guard may make a checkpoint of it, for which every byte is copied.
            copy_s = hands.copy(whole=pacer.in_zone(facts.remaining_s, facts.gap_s))
            if copy_s is not None:
                pacer.copied(now, copy_s, why)
        hands.arm(pacer.trigger_at(hands.deadline.at))
        pacer.goes_on(hands.now(), phase)

    def is_quiet(self) -> bool:
        """Whether a boundary now would do nothing: no stop, no save, no copy. Nothing is learnt."""
        facts = self._facts(Phase.PLAIN, None)
        if decide(facts).action is not BoundaryAction.CONTINUE:
            return False
        return self._pacer.copy_now(self._hands.now(), facts) is None or not self._hands.may_copy

    def save_now(self, reason: SaveReason) -> bool:
        """Save here and now; False if that failed."""
        saved = self._hands.save_now(reason)
        if saved:
            self._pacer.saved(self._hands.now())
        return saved

    def _facts(self, phase: Phase, then: Phase | None) -> BoundaryFacts:
        hands = self._hands
        return self._pacer.facts(hands.now(), hands.deadline, phase, then, hands.asks())

    # -- leaving -----------------------------------------------------------------------------------------------

    def _stop(self, verdict: Decision, *, saved: bool = False) -> None:
        """Leave; `saved`: this very boundary is on disk."""
        pacer, hands = self._pacer, self._hands
        self.reserve_kept_s = hands.deadline.at - hands.now()
        hands.stopping(verdict)
        hurried = hands.asks().leave is None and not pacer.save_is_worth_trying(self.reserve_kept_s)
        if not saved and hands.copy_is_saved and hurried:
            hands.warn("The step that took too long is dropped: the state before it is saved.")
        elif not saved and pacer.save_is_hopeless() and pacer.governed:
            hands.warn(
                f"No checkpoint is saved now: a save takes {duration_text(pacer.save_s())}, longer than the box."
            )
        elif not saved:
            self.save_now(verdict.reason)
        self.leaving = verdict

    def look(self) -> bool:
        """Inside something longer than a step: whether it has to be left now. Nothing is saved or learnt."""
        facts = self._facts(Phase.PLAIN, None)
        self._looked = decide(replace(facts, commit_first=False))  # what is saved first is a boundary's state
        return self._looked.action in (BoundaryAction.STOP, BoundaryAction.SAVE_AND_WAIT)

    def leave(self, *, save: bool) -> None:
        """What `look` asked for: end the attempt, with a save where the state is worth it."""
        seen = self._looked
        if seen.action is not BoundaryAction.STOP:
            text = "no time is left for the validation"
            seen = Decision(BoundaryAction.STOP, SaveReason.DEADLINE, Outcome.TIMEBOXED, text)
        self._leave(seen, save=save)

    def leave_at_once(self, leave: Leave, *, save: bool) -> None:
        """The loop is being left for a reason of its own."""
        self._leave(Decision(BoundaryAction.STOP, SaveReason.PREEMPTED, leave.outcome, leave.why), save=save)

    def _leave(self, verdict: Decision, *, save: bool) -> None:
        if save:
            self._stop(verdict)
        else:
            self._hands.stopping(verdict)
            self.leaving = verdict
