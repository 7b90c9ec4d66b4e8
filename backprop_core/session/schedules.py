"""The share of the budget by step, for schedules: recorded, replayed or as it is now.

A schedule that follows the clock gives other numbers in every run. So each step's share is recorded, and used again where
the same step comes again: after a kill, and in a run that replays another.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from backprop_core import contract
from backprop_core.checkpoints.store import Loaded
from backprop_core.errors import BackpropError, UsageError
from backprop_core.runs.home import backprop_home
from backprop_core.runs.schedule_record import ScheduleRecord, read_schedule, schedule_file
from backprop_core.session.enrolment import Enrolment
from backprop_core.session.messages import Messages
from backprop_core.session.settings import SessionSettings

_A_FALL = 0.02
"""A share that falls by more between two boxes is said. Inside of a box time was added, or its begin put off."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


class ScheduledSession(Protocol):
    """What is asked of a session."""

    settings: SessionSettings
    messages: Messages
    enrolment: Enrolment
    restored: Loaded | None

    def progress(self) -> float: ...


class Schedules:
    """All schedules of one session."""

    def __init__(self, session: ScheduledSession) -> None:
        self._session = session
        self._records: dict[str, ScheduleRecord] = {}
        self._replayed: dict[str, list[float]] = {}
        self._owners: dict[str, object] = {}
        self._followed: set[str] = set()

    def share_at(self, step: int, name: str, replay: str | None, owner: object = None) -> float:
        """The share of the budget that step `step` of the schedule `name` has; see `Session.progress_at`."""
        if owner is not None and self._owners.get(name) is not owner:
            self._claim(name, owner)
        record = self._records.get(name) or self._begin(name, replay)
        value = self._of_another_run(name, step)
        if value is None:
            value = record.get(step)
        if value is None:
            value = self._now(None if name in self._followed else record.get(step - 1))
            self._followed.add(name)
        if record.get(step) != value:
            self._write(record, step, value)
        return value

    def _now(self, before: float | None) -> float:
        value = self._session.progress()
        if before is not None and value < before - _A_FALL:
            self._session.messages.say_once(
                f"The schedule stood at {before:.0%} of the budget and starts again at {value:.0%}: this box has a budget "
                "of its own. For one budget over several boxes, use --until-done --total.",
                "warning",
            )
        return value

    def _claim(self, name: str, owner: object) -> None:
        """One schedule has one record.

        Raises:
            UsageError: another one has this name already, or it is no name.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(f"name={name!r} is not a name for a schedule.", "Use letters, digits, - and _.")
        if self._owners.setdefault(name, owner) is not owner:
            raise UsageError(
                f"This box already has a schedule called {name!r}.",
                "Give each its own name: name=.",
            )

    def close(self) -> None:
        for record in self._records.values():
            record.close()

    def _begin(self, name: str, replay: str | None) -> ScheduleRecord:
        session = self._session
        replay = replay or session.settings.environ.get(contract.REPLAY_SCHEDULE, "").strip()
        box = session.enrolment.box
        if replay:
            self._replayed[name] = _recorded(replay, name, box, session)
            session.messages.say(
                f"The schedule is that of {replay}: {len(self._replayed[name])} recorded steps."
            )
        path = schedule_file(session.enrolment.attempt.directory.parent.parent, name, box)
        record = self._records[name] = ScheduleRecord(path, anew=session.restored is None)
        return record

    def _of_another_run(self, name: str, step: int) -> float | None:
        values = self._replayed.get(name)
        if values is None:
            return None
        if step < len(values) and values[step] == values[step]:  # a NaN is a hole
            return values[step]
        self._session.messages.say_once(
            f"The replayed schedule has no step {step}: from here the schedule follows this run's own clock, so "
            "the runs differ.",
            "warning",
        )
        return None

    def _write(self, record: ScheduleRecord, step: int, value: float) -> None:
        try:
            record.put(step, value)
        except BackpropError as error:
            self._session.messages.say_once(f"The schedule is no longer recorded: {error}", "warning")


def _recorded(replay: str, name: str, box: int, session: ScheduledSession) -> list[float]:
    """The values of the run, or in the file, that `replay` names.

    Raises:
        UsageError: there is none, or it has recorded nothing.
    """
    path = Path(replay).expanduser()
    if not path.is_file():
        run_dir = backprop_home(session.settings.environ) / "runs" / replay
        path = schedule_file(path if path.is_dir() else run_dir, name, box)
    values = read_schedule(path)
    if not values:
        raise UsageError(
            f"There is no recorded schedule {name!r} of {replay!r} ({path}).",
            "Name a run that has trained with a BudgetLR (see 'backprop list'), or the file of its schedule.",
        )
    return values
