"""How many batches several ranks train before they talk again."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backprop_core.session.first_rank import LeadingSession

TALK_SHARE = 0.0005
"""Of the training's time, talking may take this part."""
AT_LEAST_EVERY_S = 0.25
"""Where steps are long, talking costs nothing: a signal is heard this soon."""
GRACE_SHARE = 0.25
"""Of the time that a stop signal gives, so much may pass before it is heard of."""
HEARD_WITHIN_S = 3.0
"""And no more than this: whoever sent it may wait for less than the grace (docker: 10 s)."""
ABOVE_MEAN = 1.25
"""Many steps take so much longer than the mean of those before them. What fits before the deadline goes by the longest."""
TALK_S = 0.001
"""What a talk takes, before one was measured."""


def batches_to_next_talk(
    session: LeadingSession, talk_s: float, window: int, *, step_s: float | None = None
) -> int:
    """Batches until the next boundary at which the ranks talk.

    Half of those that still fit before the deadline at most: the closer it comes, the more often they talk. And no more than
    what leaves most of a stop signal's grace for the save, even where talking is dear (one rank waits for a slower one).

    Args:
        session: knows the time left and how long steps and saves take.
        talk_s: how long a talk takes; waiting for a slower rank is in it, so it is an upper bound.
        window: batches that make one optimizer step.
        step_s: how long what is counted takes, where that is not a step.
    """
    if step_s is None:
        step_s = session.forecast.longest_step_s()
        usual_s = min(step_s, ABOVE_MEAN * session.mean_step_s) if session.mean_step_s > 0 else step_s
    else:
        usual_s = step_s
    if step_s <= 0 or session.steps < 3 or session.requests.signalled:
        return 1
    pacer = session.pacer
    spare_s = session.remaining_s() - pacer.save_s() - pacer.exit_s()
    fit = spare_s / (1.1 * step_s) / 2
    cost_s = min(talk_s, 10 * TALK_S) if talk_s > 0 else TALK_S
    steps = max(ceil(cost_s / (TALK_SHARE * usual_s)), int(AT_LEAST_EVERY_S / usual_s))
    heard_s = max(AT_LEAST_EVERY_S, min(HEARD_WITHIN_S, GRACE_SHARE * session.settings.grace_s))
    return max(1, int(min(fit, steps, heard_s / usual_s))) * max(1, window)
