"""Durations and deadlines: every notation of a budget, every source of a deadline, and which one holds.

A budget is a number of seconds that an attempt may use; it waits while the run is paused. A fixed deadline is an instant
of the wall clock, turned into the monotonic clock; it waits for nothing, not even for a machine that sleeps. The earliest
of all holds and is named.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta

from backprop_core import contract
from backprop_core.clock import Clock, local_text
from backprop_core.errors import BudgetError, shown
from backprop_core.quick_dataclass import dataclass

DEFAULT_BUDGET_S = 600.0
_LEAST_SLEEP_S = 1.0

Duration = str | float | int | timedelta

_UNIT_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "min": 60.0, "s": 1.0, "ms": 0.001}
_UNITS = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|[dhms])", re.IGNORECASE)
_COLONS = re.compile(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)")
_NOTATIONS = 'Write "90s", "10m", "1h30m", "00:10:00", a timedelta or a number of seconds.'
_AS_TEXT = 'Write "90s", "10m", "1h30m" or "00:10:00".'


def parse_duration(value: Duration, name: str = "budget", *, zero_allowed: bool = False) -> float:
    """Seconds from any notation: `"90s"`, `"10m"`, `"1h30m"`, `"00:10:00"`, `"1-00:00:00"`, a timedelta, a number.

    Args:
        value: the duration as written.
        name: what to call it in an error message.
        zero_allowed: whether zero is a sensible value (a grace may be zero, a budget may not).

    Raises:
        BudgetError: it cannot be read, is not finite, or is not positive.
    """
    seconds = _seconds(value, name)
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero_allowed):
        least = "zero or more" if zero_allowed else "greater than zero"
        raise BudgetError(
            f"{name}={shown(value)} is not a usable duration: it must be finite and {least}.",
            _AS_TEXT if isinstance(value, str) else _NOTATIONS,
        )
    return seconds


def _seconds(value: Duration, name: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if isinstance(value, str):
        text = value.strip()
        colons = _COLONS.fullmatch(text)
        if colons:
            days, hours, minutes, seconds = colons.groups()
            return int(days or 0) * 86_400 + int(hours) * 3_600 + int(minutes) * 60 + float(seconds)
        parts = _UNITS.findall(text)
        if parts and not _UNITS.sub("", text).strip():
            return sum(float(number) * _UNIT_S[unit.lower()] for number, unit in parts)
    raise BudgetError(
        f"{name}={shown(value)} cannot be read as a duration.",
        _AS_TEXT if isinstance(value, str) else _NOTATIONS,
    )


def duration_text(seconds: float) -> str:
    """A duration for people: `45.0 s`, `9 min 30 s`, `1 h 05 min`."""
    if not math.isfinite(seconds):
        return "an unknown time" if math.isnan(seconds) else "no end"
    if seconds < 0:
        return "-" + duration_text(-seconds)
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60:02d} min"


GOVERNOR = "backprop run"
"""The source of the limit that a governor sets."""
JOB_VARIABLES = (contract.DEADLINE, "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID")
"""Where one of these is set, `scheduler.py` may know when the job of this process ends."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One instant by which the attempt must be over.

    Attributes:
        at: seconds on the monotonic clock.
        source: what set it, for people: `timebox("10m")`, `SLURM_JOB_END_TIME`, ...
        fixed: a wall-clock deadline that does not wait for a pause.
        of_job: the end of the scheduler's job.
    """

    at: float
    source: str
    fixed: bool = False
    of_job: bool = False


@dataclass(slots=True)
class Deadlines:
    """All limits of an attempt; the earliest holds.

    Attributes:
        start: when the attempt began to count, on the monotonic clock.
        limits: what bounds it, never empty.
        notes: sentences about sources that were left out, and why.
        asleep_s: for how long the machine has been suspended since it was started, as far as the limits know.
    """

    start: float
    limits: list[Limit]
    notes: list[str] = field(default_factory=list)
    asleep_s: float = 0.0

    @property
    def earliest(self) -> Limit:
        return min(self.limits, key=lambda limit: limit.at)

    @property
    def budget_s(self) -> float:
        """Seconds from the start to the earliest limit."""
        return self.earliest.at - self.start

    def shift(self, paused_s: float) -> None:
        """The run was paused for `paused_s` seconds: budgets wait, fixed deadlines do not."""
        self.limits = [
            limit if limit.fixed else Limit(limit.at + paused_s, limit.source) for limit in self.limits
        ]

    def notice_sleep(self, asleep_s: float) -> float:
        """The machine has been suspended for `asleep_s` seconds in all: by what is new, fixed deadlines have come nearer.

        Returns:
            Seconds that are new; 0 for less than a second, which two clocks read one after the other may differ by.
        """
        new_s = asleep_s - self.asleep_s
        if new_s < _LEAST_SLEEP_S:
            return 0.0
        self.asleep_s = asleep_s
        self.limits = [replace(limit, at=limit.at - new_s) if limit.fixed else limit for limit in self.limits]
        return new_s

    def job_ends(self, at: float, source: str, governed_at: float) -> None:
        """The scheduler's job ends at `at` now, sooner or later than before; the governor's time box at `governed_at`."""
        kept = [
            Limit(governed_at, GOVERNOR) if limit.source == GOVERNOR else limit
            for limit in self.limits
            if not limit.of_job
        ]
        self.limits = [*kept, Limit(at, source, fixed=True, of_job=True)]

    def shrink(self, at: float, source: str) -> None:
        """Someone wants the attempt to be over by `at`; a later instant than the present one changes nothing."""
        self.limits.append(Limit(at, source, fixed=True))


def resolve_deadlines(
    *,
    budget: Duration | None,
    until: datetime | None,
    environ: Mapping[str, str],
    clock: Clock,
    boot_id: str = "",
    origin: str = "timebox",
) -> Deadlines:
    """Collect every limit that holds for an attempt which begins now.

    Args:
        budget: what the caller said, or None for the default of 10 minutes.
        until: an aware datetime, or None.
        environ: where the governor (`BACKPROP_DEADLINE_MONOTONIC`, `BACKPROP_JOB_END_WALL`) and SLURM
            (`SLURM_JOB_END_TIME`, seconds since 1970, see sbatch's manual page under OUTPUT ENVIRONMENT VARIABLES) leave
            theirs.
        clock: the time.
        boot_id: this boot's id; the governor's monotonic deadline holds only on the same boot.
        origin: how the caller is called in messages.

    Raises:
        BudgetError: budget or until cannot be read or have passed.
    """
    now = clock.monotonic()
    governed = _from_governor(environ, clock, boot_id)
    limits: list[Limit] = []
    notes: list[str] = []
    if budget is not None:
        magic = origin.startswith("%")  # counts from the cell's start, so it gives what is left of its budget
        limits.append(Limit(now + parse_duration(budget), origin if magic else f"{origin}({budget!r})"))
    if until is not None:
        limits.append(_from_until(until, clock))
    if governed is not None:
        limits.append(governed)
    if not limits:
        limits.append(Limit(now + DEFAULT_BUDGET_S, "the default of 10 minutes"))
    job, source = (
        environ.get(contract.JOB_END_WALL),
        environ.get(contract.JOB_END_SOURCE, "the end of the job"),
    )
    if not job:  # a governor, or whoever has asked the scheduler, knows it better
        job, source = environ.get("SLURM_JOB_END_TIME"), "SLURM_JOB_END_TIME"
    if job:
        _add_job_end(job, source, clock, limits, notes)
    start = now
    if governed is not None:
        start = min(now, governed.at - _number(environ.get(contract.BUDGET_S), 0.0))
    return Deadlines(start, limits, notes, clock.asleep_s())


def _number(text: str | None, default: float) -> float:
    try:
        value = float(text or "")
    except ValueError:
        return default
    return value if math.isfinite(value) else default


def _from_until(until: datetime, clock: Clock) -> Limit:
    if not isinstance(until, datetime) or until.tzinfo is None or until.utcoffset() is None:
        raise BudgetError(
            f"until={shown(until)} is not an aware datetime, so it names no point in time.",
            "Give it a time zone: datetime(..., tzinfo=timezone.utc) or datetime.now().astimezone().",
        )
    left = until.timestamp() - clock.wall()
    if left <= 0:
        raise BudgetError(
            f"until={until.isoformat()} has already passed: it was {duration_text(-left)} ago.",
            "Give one in the future.",
        )
    return Limit(clock.monotonic() + left, f"until {until.isoformat(timespec='seconds')}", fixed=True)


def _from_governor(environ: Mapping[str, str], clock: Clock, boot_id: str) -> Limit | None:
    source = GOVERNOR
    at = _number(environ.get(contract.DEADLINE_MONOTONIC), math.nan)
    if math.isfinite(at) and environ.get(contract.BOOT_ID, boot_id) == boot_id:
        return Limit(at, source)
    wall = _number(environ.get(contract.DEADLINE_WALL), math.nan)
    if math.isfinite(wall):
        return Limit(clock.monotonic() + wall - clock.wall(), source)
    return None


def _add_job_end(text: str, source: str, clock: Clock, limits: list[Limit], notes: list[str]) -> None:
    end = _number(text, math.nan)
    left = end - clock.wall()
    if not math.isfinite(end):
        notes.append(f"{source}={text!r} is not a number of seconds since 1970, so it is ignored.")
    elif left <= 0:
        notes.append(f"{source} passed {duration_text(-left)} ago, so it is ignored.")
    else:
        instant = local_text(datetime.fromtimestamp(end, tz=UTC).timestamp())
        limits.append(Limit(clock.monotonic() + left, f"{source} ({instant})", fixed=True, of_job=True))


def stopped_text(step: int | None, left_s: float | None) -> str:
    """Such as `Stopped at step 139, 0.4 s before the deadline.`

    Args:
        step: the last, or None where it is not known.
        left_s: seconds to the deadline; below 0 behind it.
    """
    text = "Stopped" if step is None else f"Stopped at step {step}"
    if left_s is None:
        return f"{text} for the deadline."
    return f"{text}, {duration_text(abs(left_s))} {'before' if left_s >= 0 else 'after'} the deadline."
