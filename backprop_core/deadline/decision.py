"""Facts in, a decision with its reason out. Reads no clock, no disk, no GPU; that is what makes it testable by thousands."""

from __future__ import annotations

from enum import StrEnum

from backprop_core.deadline.budget import duration_text
from backprop_core.outcome import Outcome, SaveReason
from backprop_core.quick_dataclass import dataclass

WINDOW_PATIENCE_S = 1.0
"""A signal's first save waits at most so long for the end of an open accumulation window."""


class BoundaryAction(StrEnum):
    """What to do at this boundary."""

    CONTINUE = "continue"
    SAVE = "save"
    """Copy the state and let the writer thread save it."""
    SAVE_AND_WAIT = "save_and_wait"
    """Save here and now, then decide again: to learn what a save costs, or because a signal came."""
    WAIT = "wait"
    """Wait for the save in flight, the first one, whose cost is not known yet; then decide again."""
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Leave:
    """Somebody asked the attempt to end.

    Attributes:
        outcome: how the attempt is to be called then.
        why: half a sentence for people.
        at_once: at this boundary; otherwise the shrunk deadline decides.
        here: at this very boundary, as where time is over: nothing is finished before, no epoch's end and no window.
    """

    outcome: Outcome
    why: str
    at_once: bool
    here: bool = False


@dataclass(frozen=True, slots=True)
class BoundaryFacts:
    """All that a decision needs. Durations are upper bounds in seconds.

    Attributes:
        remaining_s: time to the earliest deadline.
        gap_s: to the next boundary, validation or epoch end included if one is due.
        window_s: to the end of the present accumulation window; 0 if none is open.
        finish: the gap is one to be finished where it fits, whoever asks to leave: see decisions/0004.
        save_s: a synchronous save, waiting for one in flight included.
        exit_s: from the end of the save to the end of the process.
        save_known: a save of this attempt has been measured.
        save_failed_lately: the last one failed a moment ago, so that trying at once again would only fail again.
        leave: a request to end, if there is one.
        commit_first: a signal wants the process gone, and nothing has been committed since; whoever sent it may wait for
            less than the grace.
        save_asked: somebody asked for a checkpoint now.
        save_due: the periodic interval is over.
        save_in_flight: the writer thread is busy.
        deadline: what set the deadline, for people.
    """

    remaining_s: float
    gap_s: float
    save_s: float
    exit_s: float
    window_s: float = 0.0
    finish: bool = False
    save_known: bool = True
    save_failed_lately: bool = False
    leave: Leave | None = None
    commit_first: bool = False
    save_asked: bool = False
    save_due: bool = False
    save_in_flight: bool = False
    deadline: str = "the deadline"

    @property
    def reserve_s(self) -> float:
        """What must be kept back if one more gap is begun."""
        return self.gap_s + self.save_s + self.exit_s


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and why."""

    action: BoundaryAction
    reason: SaveReason = SaveReason.PERIODIC
    outcome: Outcome = Outcome.RUNNING
    text: str = ""


_CONTINUE = Decision(BoundaryAction.CONTINUE)


def decide(facts: BoundaryFacts) -> Decision:
    """The rule of DESIGN section 5: stop if what remains is less than a further gap, the save and the exit."""
    fits = facts.remaining_s >= facts.reserve_s
    leave = facts.leave
    if leave is not None and (leave.at_once or not fits):
        return _leave(facts, leave)
    if not fits:
        return _no_room(facts)
    return _save(facts)


def _save(facts: BoundaryFacts) -> Decision:
    """Training goes on; whether this boundary is saved, and how."""
    if facts.commit_first and not facts.save_failed_lately:
        if 0 < facts.window_s <= WINDOW_PATIENCE_S:
            return _CONTINUE
        return Decision(
            BoundaryAction.SAVE_AND_WAIT,
            SaveReason.PREEMPTED,
            text="a signal arrived: saving first",
        )
    if not (facts.save_asked or facts.save_due) or facts.save_in_flight:
        return _CONTINUE
    if facts.window_s and facts.remaining_s >= facts.window_s + facts.reserve_s:
        return _CONTINUE
    return Decision(BoundaryAction.SAVE, SaveReason.REQUESTED if facts.save_asked else SaveReason.PERIODIC)


def _no_room(facts: BoundaryFacts) -> Decision:
    """A further gap does not fit any more, unless the cost of a save is only a guess: then learn it first."""
    if not facts.save_known and facts.save_in_flight:
        return Decision(BoundaryAction.WAIT)
    if not facts.save_known and facts.remaining_s > facts.gap_s + facts.exit_s:
        if facts.save_failed_lately:
            return _CONTINUE
        return Decision(BoundaryAction.SAVE_AND_WAIT, SaveReason.PERIODIC, text="to learn what a save costs")
    return Decision(
        BoundaryAction.STOP,
        SaveReason.DEADLINE,
        Outcome.TIMEBOXED,
        f"{facts.deadline}: {duration_text(facts.remaining_s)} left, "
        f"another step and the save need {duration_text(facts.reserve_s)}",
    )


def _leave(facts: BoundaryFacts, leave: Leave) -> Decision:
    """End now, or behind what must be finished (an epoch's end, an accumulation window) if that still fits."""
    if facts.finish and facts.remaining_s >= facts.reserve_s and not leave.here:
        return _CONTINUE
    if (
        not leave.here
        and facts.window_s
        and facts.remaining_s >= facts.window_s + facts.save_s + facts.exit_s
    ):
        return _CONTINUE
    reason = SaveReason.PREEMPTED if leave.outcome is Outcome.PREEMPTED else SaveReason.REQUESTED
    return Decision(BoundaryAction.STOP, reason, leave.outcome, leave.why)
