"""Which runs are meant, and in which order: by tag, age, and any number that is known of a run."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from backprop_core.errors import UsageError
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.attempt import EVENTS_FILE, attempt_dir
from backprop_core.runs.events import highlights
from backprop_core.runs.listing import RunRow


def duration_s(row: RunRow, now: float) -> float | None:
    """Seconds from a run's beginning to its end, or to `now` while it runs; None where its end is not known."""
    end = row.ended_wall if row.ended_wall is not None else (now if row.status == "running" else None)
    return None if end is None else max(0.0, end - row.started_wall)


_CONDITION = re.compile(r"\s*([^<>=!]+?)\s*(<=|>=|!=|==|=|<|>)\s*([^<>=!\s]+)\s*")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,8}")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_OF_A_ROW: Mapping[str, Callable[[RunRow, float], float | None]] = {
    "step": lambda row, now: row.last_step,
    "loss": lambda row, now: row.last_loss,
    "checkpoints": lambda row, now: row.checkpoints,
    "duration": duration_s,
    "when": lambda row, now: row.started_wall,
}
_WORDS: Mapping[str, Callable[[RunRow], str]] = {
    "id": lambda row: row.id,
    "name": lambda row: row.name or "",
    "status": lambda row: str(row.status),
}
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Condition:
    """What a number of a run must be, such as `loss<0.5`."""

    metric: str
    sign: str
    limit: float

    def holds(self, value: float | None) -> bool:
        """Whether `value` is so; one that is not known never is."""
        return value is not None and _OPERATORS[self.sign](value, self.limit)


def parse_condition(text: str) -> Condition:
    """A condition as it is written on a command line.

    Raises:
        UsageError: it is not `METRIC OPERATOR NUMBER`.
    """
    found = _CONDITION.fullmatch(text)
    try:
        if found is not None:
            return Condition(found[1], found[2], float(found[3]))
    except ValueError:
        pass
    raise UsageError(
        f"--where {text!r} cannot be read.",
        "Write a metric, an operator and a number, such as: --where 'loss<0.5'",
    )


class Metrics:
    """The numbers of runs, by name: those of the list, and whatever the script has logged last.

    Args:
        home: where the runs are.
        now: seconds since 1970.
    """

    def __init__(self, home: Path, now: float) -> None:
        self._home = home
        self._now = now
        self._logged: dict[str, Mapping[str, float]] = {}

    def of(self, row: RunRow, metric: str) -> float | None:
        """The number `metric` of a run; None where it is not known."""
        if metric in _OF_A_ROW:
            return _OF_A_ROW[metric](row, self._now)
        if row.id not in self._logged:
            self._logged[row.id] = {} if row.foreign else last_values(self._home / "runs" / row.id)
        return self._logged[row.id].get(metric)

    def names(self) -> set[str]:
        """The logged metrics that have been seen so far."""
        return {name for values in self._logged.values() for name in values}

    def sorted(self, rows: Sequence[RunRow], key: str, *, reverse: bool = False) -> list[RunRow]:
        """`rows` by a column or a metric; those of which it is not known come last either way."""
        if key in _WORDS:
            return sorted(rows, key=_WORDS[key], reverse=reverse)
        known, unknown = [], []
        for row in rows:
            value = self.of(row, key)
            if value is None or math.isnan(value):
                unknown.append(row)
            else:
                known.append((value, row))
        known.sort(key=lambda pair: pair[0], reverse=reverse)
        return [*(row for _, row in known), *unknown]


def is_column(key: str) -> bool:
    """Whether the list itself has a column `key`."""
    return key in _OF_A_ROW or key in _WORDS


def last_values(run_dir: Path) -> Mapping[str, float]:
    """What the run in `run_dir` logged last, by name: of its newest attempt that has logged anything."""
    try:
        numbers = sorted(
            int(path.name) for path in (run_dir / "attempts").iterdir() if _ATTEMPT.fullmatch(path.name)
        )
    except OSError:
        return {}
    for number in reversed(numbers):
        told = highlights(attempt_dir(run_dir, number) / EVENTS_FILE, last_bytes=_TAIL_BYTES)
        if told.values:
            return told.values
    return {}
