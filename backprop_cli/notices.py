"""What is asked for while a script runs: whether the cloud takes the machine away, and whether the job's end has moved."""

from __future__ import annotations

from collections.abc import Callable

from backprop_core.clock import Clock
from backprop_core.config.sources import Settings
from backprop_core.deadline.scheduler import MARGIN_S, JobEnd, asked_scheduler
from backprop_core.governor.asked_again import AskedAgain
from backprop_core.governor.governor import Governor
from backprop_core.resources import spot

_JOB_SHARE = 0.25
"""Of the time that is left: so long until the scheduler is asked again."""
_JOB_EVERY_S = (5.0, 60.0)
"""But no more often than the first, and no less than the second: many jobs ask the same scheduler."""
_LEAST_MOVE_S = 1.0
"""A job's end that has moved by less is the same: some schedulers tell what is left, in whole seconds or minutes."""
_LEAST_MOVE_IN_MINUTES_S = 90.0


class Notices:
    """Asks in threads, and has a governor act on the answers.

    Args:
        settings: `watch-spot` names the cloud.
        job: the end of this process's job, as it was when the script began; None outside of one.
        say: takes a sentence for the user.
    """

    def __init__(
        self, settings: Settings, job: JobEnd | None, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self._clock = clock
        self._say = say
        self._troubled = False
        self._job = job
        self._cloud: AskedAgain[spot.SpotAnswer] | None = None
        self._scheduler: AskedAgain[JobEnd] | None = None
        source = settings["watch-spot"]
        if source:
            self._cloud = AskedAgain(
                lambda: spot.ask(source), lambda: spot.ASK_EVERY_S, clock, "backprop-spot-notice"
            )
        if job is not None and job.can_move:
            self._scheduler = AskedAgain(
                asked_scheduler, self._until_asked_s, clock, "backprop-job-end", at_once=False
            )

    def look(self, governor: Governor) -> None:
        """Four times a second, while the script runs."""
        answer = None if self._cloud is None else self._cloud.take()
        if answer is not None and answer.notice:
            governor.steering.end_for(answer.notice)
        elif answer is not None and answer.trouble and not self._troubled:
            self._troubled = True
            self._say(f"{answer.trouble} No notice was received; it will be asked again.")
        end = None if self._scheduler is None else self._scheduler.take()
        if end is not None and self._has_moved(end):
            self._job = end
            governor.steering.job_ends(end.at(self._clock) - MARGIN_S, end)

    def close(self) -> None:
        """The script is over."""
        for asked in (self._cloud, self._scheduler):
            if asked is not None:
                asked.close()

    def _has_moved(self, end: JobEnd) -> bool:
        least_s = _LEAST_MOVE_IN_MINUTES_S if end.in_minutes else _LEAST_MOVE_S
        return self._job is None or abs(end.wall - self._job.wall) >= least_s

    def _until_asked_s(self) -> float:
        least_s, most_s = _JOB_EVERY_S
        left_s = 0.0 if self._job is None else self._job.wall - self._clock.wall()
        return min(most_s, max(least_s, _JOB_SHARE * left_s))
