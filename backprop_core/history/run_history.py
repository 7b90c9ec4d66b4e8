"""A whole run as its files tell it: its attempts one behind the other, and where their time went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backprop_core.history.attempt_history import AttemptHistory, Checkpoint, attempt_history, facts_of
from backprop_core.history.curve import Point, without_repeated_steps
from backprop_core.history.energy import Energy, over_attempts, together
from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.attempt import attempt_dir
from backprop_core.runs.record import AttemptRecord, RunRecord
from backprop_core.strict_json import as_duration, as_object, as_whole

BESIDE_TRAINING = frozenset({"periodic", "requested", "survivor"})
"""Checkpoints that are written while the training goes on, or when it is gone: they take no time of it."""


@dataclass(frozen=True, slots=True)
class TimeSpent:
    """Where the time of an attempt went, in seconds. All but `waiting_s` add up to its length.

    Attributes:
        waiting_s: for resources, before it began.
        starting_s: until the training began: interpreter, imports, model, data, the restored checkpoint. None where no
            training of ours told when.
        training_s: the rest.
        saving_s: the training stood still for a checkpoint. Those written beside it are not in here.
        paused_s: it was held up.
        leaving_s: from the training's last word to the end of its processes. None where there was no such word.
    """

    waiting_s: float
    starting_s: float | None
    training_s: float
    saving_s: float
    paused_s: float
    leaving_s: float | None


@dataclass(frozen=True, slots=True)
class ForecastRecord:
    """What an attempt expected and what came. `fit_steps` are the steps expected still, `came_steps` those
    that were made from then on; None where the attempt did not get so far.
    """

    fit_steps: int | None
    came_steps: int | None
    boxes: int | None


@dataclass(frozen=True, slots=True)
class RunHistory:
    """A run and its attempts, oldest first."""

    record: RunRecord
    attempts: tuple[AttemptHistory, ...]

    @property
    def total_s(self) -> float:
        """Seconds that all attempts took, pauses included."""
        return self.attempts[-1].end_s if self.attempts else 0.0

    def logged_names(self) -> list[str]:
        """The names of what was logged: the loss first, then in the order in which they came."""
        names = dict.fromkeys(name for attempt in self.attempts for name in attempt.logged)
        return sorted(names, key=lambda name: name != "loss")

    def machine_names(self) -> list[str]:
        """The names of what was measured, in the order in which they came."""
        return [*dict.fromkeys(name for attempt in self.attempts for name in attempt.machine)]

    def by_time(self, name: str) -> list[list[Point]]:
        """The points of a curve, one list for each attempt: all that was logged or measured."""
        return [_points(attempt, name) for attempt in self.attempts]

    def by_step(self, name: str) -> list[list[Point]]:
        """The same without what a later attempt has made again, because an earlier one died behind its checkpoint."""
        resumed = [attempt.resumed_step for attempt in self.attempts]
        return without_repeated_steps(self.by_time(name), resumed)

    def checkpoints(self) -> list[Checkpoint]:
        """Those that were announced, each once, oldest first."""
        found = {made.path: made for attempt in self.attempts for made in attempt.checkpoints}
        return sorted(found.values(), key=lambda made: made.at_s)


def run_history(run_dir: Path, record: RunRecord, now: float) -> RunHistory:
    """Read the whole run in `run_dir`.

    Args:
        now: seconds since 1970, where an attempt that goes on has its end.
    """
    attempts: list[AttemptHistory] = []
    offset_s = 0.0
    for attempt in record.attempts:
        total_s = length_s(attempt, now)
        attempts.append(attempt_history(attempt_dir(run_dir, attempt.number), attempt, offset_s, total_s))
        offset_s += total_s
    return RunHistory(record, tuple(attempts))


def length_s(attempt: AttemptRecord, now: float) -> float:
    """Seconds from an attempt's beginning to its end or to `now`, as they were measured: the wall clock may have been set
    meanwhile.
    """
    measured = as_duration(as_object(attempt.measured.get("governor")).get("used_s"))
    if measured is not None and attempt.ended_wall is not None:
        return measured
    return max(0.0, (now if attempt.ended_wall is None else attempt.ended_wall) - attempt.started_wall)


def time_spent(attempt: AttemptHistory) -> TimeSpent:
    """Where the time of an attempt went."""
    total_s = attempt.total_s
    governor = as_object(attempt.record.measured.get("governor"))
    paused_s = min(total_s, sum(_seconds(attempt, pause.at_s, pause.seconds) for pause in attempt.pauses))
    left_s = total_s - paused_s
    starting_s = None if attempt.began_s is None else min(left_s, attempt.began_s)
    left_s -= starting_s or 0.0
    over = attempt.record.outcome is not Outcome.RUNNING
    leaving_s = None
    if over and attempt.finished_s is not None:
        leaving_s = min(left_s, max(0.0, total_s - attempt.finished_s))
        left_s -= leaving_s
    blocking = (made.seconds or 0.0 for made in attempt.checkpoints if made.why not in BESIDE_TRAINING)
    saving_s = min(left_s, sum(blocking))
    return TimeSpent(
        waiting_s=as_duration(governor.get("waited_s")) or 0.0,
        starting_s=starting_s,
        training_s=left_s - saving_s,
        saving_s=saving_s,
        paused_s=paused_s,
        leaving_s=leaving_s,
    )


def forecast_of(attempt: AttemptHistory) -> ForecastRecord | None:
    """What an attempt forecast, and what came of it; None where it did not get so far as to say."""
    fit = facts_of(attempt, "fit")
    told = as_whole(fit.get("steps_that_fit"), least=0)
    if told is None:
        return None
    came = as_whole(attempt.record.measured.get("steps_that_came"), least=0)
    return ForecastRecord(told, came, as_whole(fit.get("boxes"), least=0))


def energy_of(history: RunHistory) -> tuple[Energy | None, Energy | None]:
    """The energy of the run's GPUs, and of the machine's processors meanwhile; None where nothing told."""
    gpus, cpus = [], []
    for attempt in history.attempts:
        found = [meter.energy(attempt.total_s) for meter in attempt.gpu_power.values()]
        gpus.append((attempt.total_s, together([energy for energy in found if energy is not None])))
        cpus.append((attempt.total_s, attempt.cpu_power.energy(attempt.total_s)))
    return over_attempts(gpus), over_attempts(cpus)


def repeated_steps(attempts: Sequence[AttemptHistory]) -> list[int]:
    """For each attempt how many steps of the ones before it had to be made again, as far as progress tells."""
    found, furthest = [], 0
    for attempt in attempts:
        resumed = attempt.resumed_step
        found.append(0 if resumed is None else max(0, furthest - resumed))
        last = max(
            (point.step or 0 for curve in attempt.logged.values() for point in curve.points()[-1:]), default=0
        )
        furthest = max(last, resumed or 0)
    return found


def _points(attempt: AttemptHistory, name: str) -> list[Point]:
    curve = attempt.logged.get(name) or attempt.machine.get(name)
    return [] if curve is None else curve.points()


def _seconds(attempt: AttemptHistory, at_s: float, seconds: float | None) -> float:
    return max(0.0, attempt.end_s - at_s) if seconds is None else seconds
