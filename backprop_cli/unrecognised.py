"""A script in which nothing was recognised is told so while there is time to do something about it."""

from __future__ import annotations

import math

from backprop_cli.detection import KINDS, SAVE_ITSELF
from backprop_core.config.options import TRAINING
from backprop_core.config.sources import Settings
from backprop_core.deadline.budget import duration_text

AFTER_S = 60.0
AFTER_SHARE = 0.05
LOST = "that work is lost when the time box ends"
LEAST_S = 10.0
"""A large framework takes seconds to import, so nobody is told sooner than this, or in the middle of a shorter box."""


def notice_after_s(budget_s: float) -> float:
    """Seconds from the start of a script to the word on what was not recognised: a minute, or 5% of the box."""
    return min(AFTER_S, max(AFTER_SHARE * budget_s, LEAST_S), budget_s / 2)


class Unrecognised:
    """Says once that neither a session nor a checkpoint of the script has been seen.

    Args:
        began: when the script was started, on the monotonic clock.
        budget_s: seconds that it has.
        silent: nothing was to be recognised.
        from_training: the box counts from the first step, so it has not begun.
    """

    def __init__(
        self, began: float, budget_s: float, *, silent: bool = False, from_training: bool = False
    ) -> None:
        self._began = began
        self._at = began + notice_after_s(budget_s)
        self._latest = began + budget_s / 2
        self._settled = silent
        self._at_stake = "its box has not begun: use --budget-from process" if from_training else LOST

    @classmethod
    def of(cls, settings: Settings, began: float, budget_s: float) -> Unrecognised:
        """That of a script that is started with these settings."""
        from_training = settings["budget-from"] == TRAINING
        return cls(
            began,
            math.inf if from_training else budget_s,
            silent=settings["framework"] == "none",
            from_training=from_training,
        )

    def look(self, now: float, *, recognised: bool, imports: bool = False) -> str:
        """The sentence, at the moment when it is due, else nothing.

        Args:
            recognised: there is a session in the script, or it has saved something itself.
            imports: the script is still importing, so it cannot train yet; until the middle of the box that is waited for.
        """
        waits = now < self._at or (imports and now < self._latest)
        if self._settled or (waits and not recognised):
            return ""
        self._settled = True
        if recognised:
            return ""
        return (
            f"In {duration_text(now - self._began)} no training was recognised in this script ({KINDS}), and no checkpoint "
            "of its own. If it is still preparing, a line will say when backprop attaches to its training. If it trains "
            f"already, {self._at_stake}. {SAVE_ITSELF}"
        )
