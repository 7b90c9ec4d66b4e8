"""`--budget-from training`: a box that counts from its first step, however long imports and data take."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from backprop_core.clock import Clock, local_text
from backprop_core.deadline.budget import duration_text
from backprop_core.errors import StoreError
from backprop_core.governor.governor import Governor
from backprop_core.runs.control import STARTED_UP, Action, send_control

LEAST_SHARE = 0.5
"""Of the box: so much is left at any time before the first step, so that nothing is cut off that has not begun."""


class StartUpAllowance:
    """Extends the box of one attempt by what came before its first step.

    Args:
        attempt_dir: the attempt's folder, where requests go.
        began: monotonic instant at which the box began.
        budget_s: seconds from the first step.
        end: monotonic instant that no extension may pass.
        say: takes a sentence for the user.
    """

    def __init__(
        self,
        attempt_dir: Path,
        began: float,
        budget_s: float,
        end: float,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._attempt_dir = attempt_dir
        self._began = began
        self._budget_s = budget_s
        self._end = end
        self._clock = clock
        self._say = say
        self._granted_s = 0.0
        self._over = False

    def look(self, governor: Governor) -> None:
        """Four times a second: grant what is due."""
        if self._over or governor.deadline == math.inf:
            return
        now, heard = self._clock.monotonic(), governor.heard
        trains_since = governor.session.trains_since
        if trains_since is None and heard.step is not None:  # a script without a session that tells its steps
            trains_since = now
        if trains_since is not None:
            self._over = True
            self._grant(trains_since)
            after, end = trains_since - self._began, min(trains_since + self._budget_s, self._end)
            ends = local_text(self._clock.wall() + end - now)
            self._say(f"the first step came after {duration_text(after)}; the box ends at {ends}.")
        elif governor.deadline - now < LEAST_SHARE * self._budget_s:
            self._grant(now)

    def _grant(self, until: float) -> None:
        """Have the box end `budget_s` behind `until`, or at the end that holds for all boxes."""
        granted_s = min(until - self._began, self._end - self._began - self._budget_s) - self._granted_s
        if granted_s <= 0:
            return
        try:
            send_control(
                self._attempt_dir, Action.EXTEND, extend_s=granted_s, why=STARTED_UP, clock=self._clock
            )
        except StoreError as error:
            self._say(f"{error.what} So the box counts from the start.")
            self._over = True
        else:
            self._granted_s += granted_s
