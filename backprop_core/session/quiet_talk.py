"""Whether the ranks of a training need only come together at a boundary, and nothing is due there: see decisions/0047."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backprop_core.deadline.forecast import Phase

if TYPE_CHECKING:
    from backprop_core.session.session import Session

FAR_STEPS = 4
"""With room for fewer steps before the deadline the others are waited for first, and the decision is taken after that."""
AFTER_STEPS = 3
"""By then memory for copies has been taken, which asks for the state."""


def is_quiet(session: Session, phase: Phase, then: Phase | None, longest_s: float) -> bool:
    """Whether nothing is due that other ranks have to wait for, and nothing will be for some steps.

    Args:
        session: the first rank's.
        phase, then: what lies behind the boundary.
        longest_s: the longest step since the last talk.
    """
    requests, pacer = session.requests, session.pacer
    if phase is not Phase.PLAIN or then is not None or pacer.phase is not Phase.PLAIN:
        return False
    if requests.pending or requests.leave or session.leaving or session.recorder is not None:
        return False
    spare_s = session.remaining_s() - pacer.save_s() - pacer.exit_s()
    if spare_s < FAR_STEPS * max(session.forecast.longest_step_s(), longest_s):
        return False
    return pacer.steps >= AFTER_STEPS and session.conduct.is_quiet()
