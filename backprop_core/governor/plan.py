"""Pure: when an attempt is to be asked to end, and when it is to be killed.

Three kinds of script are told apart. One whose session has joined ends itself; the governor is only the
backstop. One that catches SIGTERM gets its grace before the deadline. One that does not would die of SIGTERM
at once, so it gets it as late as possible.
"""

from __future__ import annotations

import math
from enum import StrEnum

from backprop_core.quick_dataclass import dataclass

KILL_MARGIN_S = 0.25
"""SIGKILL is sent this much before the deadline: what a large process needs to be gone."""
JOINED_KILL_MARGIN_S = 0.12
"""The same for a script with a session in it, which has ended by itself unless it holds the interpreter lock."""
LATE_ASK_S = 0.5
"""A script that dies of SIGTERM gets it this much before the deadline."""
GRACE_SHARE = 0.1
"""At most this share of the budget is given to a script that catches SIGTERM."""


class Move(StrEnum):
    """What the governor does next."""

    WAIT = "wait"
    ASK = "ask"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What the decision rests on. All instants are seconds on the monotonic clock.

    Args:
        deadline: when the process must be gone; infinity for none.
        budget_s: the whole time box in seconds.
        grace_s: seconds between asking and killing when somebody asks before the deadline.
        joined: a session of backprop lives in the script and ends it itself.
        catches_term: the script has a handler for SIGTERM.
        asked_at: when the script was asked to end, or None.
    """

    deadline: float
    budget_s: float
    grace_s: float
    joined: bool
    catches_term: bool
    asked_at: float | None = None


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """The next move and the instant from which it is due."""

    move: Move
    at: float

    def due(self, now: float) -> bool:
        """Whether the move is to be made at the instant `now`."""
        return self.move is not Move.WAIT and now >= self.at


def kill_at(facts: PlanFacts) -> float:
    """The instant of SIGKILL: shortly before the deadline, or the grace after the script was asked."""
    share = 0.05 if facts.joined else 0.1
    margin_s = JOINED_KILL_MARGIN_S if facts.joined else KILL_MARGIN_S
    at = facts.deadline - min(margin_s, share * facts.budget_s)
    if facts.asked_at is not None:
        at = min(at, facts.asked_at + facts.grace_s)
    return at


def ask_at(facts: PlanFacts) -> float:
    """The instant of SIGTERM for a script that does not end itself."""
    late = min(LATE_ASK_S, 0.2 * facts.budget_s)
    if facts.catches_term:
        return facts.deadline - max(late, min(facts.grace_s, GRACE_SHARE * facts.budget_s))
    return facts.deadline - late


def next_move(facts: PlanFacts) -> PlannedMove:
    """What comes next for an attempt in this state, and when."""
    kill = kill_at(facts)
    if facts.asked_at is None and not facts.joined:
        ask = ask_at(facts)
        if ask < kill:
            return PlannedMove(Move.ASK, ask)
    return PlannedMove(Move.KILL if math.isfinite(kill) else Move.WAIT, kill)
