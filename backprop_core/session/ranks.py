"""Sessions of several processes that train together.

The first rank has the session: it decides, saves and talks. All count the same boundaries, and at those they have agreed on
they hear of each other's signals and the others wait for the first, which may ask for their part of a checkpoint. So no
collective is paid for each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backprop_core.session.session import Session

if TYPE_CHECKING:
    from backprop_core.clock import Clock
    from backprop_core.ports.ranks import Ranks
    from backprop_core.session.rank_talk import SharedTrainingState
    from backprop_core.session.settings import SessionSettings


def session_among(
    ranks: Ranks | None,
    settings: SessionSettings,
    training_state: SharedTrainingState,
    clock: Clock,
    *,
    leave_s: float = 0.02,
) -> Session:
    """The session of this process, which is alone or one of `ranks`."""
    if ranks is None:
        return Session(settings, training_state, clock=clock, leave_s=leave_s)
    from backprop_core.session.first_rank import LeadingSession  # late: most processes train alone
    from backprop_core.session.other_ranks import FollowingSession

    if ranks.rank == 0:
        return LeadingSession(settings, training_state, ranks, clock, leave_s=leave_s)
    return FollowingSession(settings, training_state, ranks, clock)
