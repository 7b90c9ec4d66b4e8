"""What is different between two attempts, or between two runs."""

from __future__ import annotations

import difflib
import math
import shlex
from collections.abc import Mapping, Sequence

from backprop_core.history.curve import Point
from backprop_core.history.run_history import RunHistory
from backprop_core.provenance.attempt_provenance import Provenance
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.record import RunRecord

MOST_DIFF_LINES = 400
COMPARED_STEPS = 5


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One thing that is not the same. None: it is not there, or not known."""

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ValuesAt:
    """What two curves are at a step. `between`: at least one of the values lies on the line between two logged ones."""

    step: int
    before: float
    after: float
    between: bool


@dataclass(frozen=True, slots=True)
class CurveDifference:
    """Two curves of one name.

    Attributes:
        common_steps: at how many steps both have a value that is known here.
        first: the first of those at which they differ; None where they do not.
        places: a few steps along what both cover.
    """

    name: str
    common_steps: int
    first: ValuesAt | None
    places: tuple[ValuesAt, ...]


@dataclass(frozen=True, slots=True)
class RunDifference:
    """Two runs beside one another; each part lists only what is not the same. `git_diff` compares what each had changed
    since its commit, line by line; empty where that is the same or not known.
    """

    settings: tuple[FieldDifference, ...]
    arguments: tuple[FieldDifference, ...]
    environment: tuple[FieldDifference, ...]
    packages: tuple[FieldDifference, ...]
    git_diff: tuple[str, ...]
    position: tuple[FieldDifference, ...]
    results: tuple[FieldDifference, ...]
    curves: tuple[CurveDifference, ...]


def compare_runs(
    before: RunHistory, after: RunHistory, started_before: Provenance | None, started_after: Provenance | None
) -> RunDifference:
    """Compare two runs.

    Args:
        started_before, started_after: what the last attempt of each was started from, where it was kept.
    """
    first, second = before.record, after.record
    kept = started_before is not None and started_after is not None
    return RunDifference(
        settings=_of_words(_texts(first.options), _texts(second.options)),
        arguments=_of_words({"command": shlex.join(first.command)}, {"command": shlex.join(second.command)}),
        environment=_of_words(_surroundings(first, started_before), _surroundings(second, started_after)),
        packages=_of_words(_packages(first, started_before, kept), _packages(second, started_after, kept)),
        git_diff=tuple(_diff_lines(started_before, started_after)),
        position=_of_words(_position(before), _position(after)),
        results=_of_words(_results(before), _results(after)),
        curves=tuple(_curves(before, after)),
    )


def between_attempts(before: Provenance, after: Provenance) -> tuple[FieldDifference, ...]:
    """What two attempts of a run were started from that is not the same."""
    found = _of_words(_started(before), _started(after))
    return found + _of_words(before.packages or {}, after.packages or {})


def _of_words(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[FieldDifference, ...]:
    names = dict.fromkeys([*before, *after])
    return tuple(
        FieldDifference(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


def _surroundings(record: RunRecord, started: Provenance | None) -> dict[str, str]:
    if started is not None:
        told = _started(started) | {"folder": record.cwd}
        told.pop("command")
        return told
    told = {"folder": record.cwd, "interpreter": record.interpreter, "Python": record.python_version}
    return told | {"git commit": record.git_commit or "", "GPUs": record.gpu or ""}


def _started(started: Provenance) -> dict[str, str]:
    git = started.git
    told = {
        "command": shlex.join(started.command),
        "interpreter": started.interpreter,
        "Python": started.python,
        "host": started.host,
        "system": started.system,
        "CPUs": "" if started.cpus is None else str(started.cpus),
        "GPUs": ", ".join(started.gpus),
    }
    told |= {f"seed {name}": value for name, value in started.seeds.items()}
    if git is not None:
        told["git commit"] = git.commit or "none"
        told["changed since the commit"] = _changed(git.diff)
        told["untracked files"] = ", ".join(git.untracked)
    return told


def _changed(diff: str | None) -> str:
    if diff is None:
        return "unknown"
    if not diff:
        return "nothing"
    import xxhash

    lines = diff.splitlines()
    files = sum(line.startswith("diff --git ") for line in lines)
    return f"{files} file{'s' * (files != 1)}, digest {xxhash.xxh3_64_hexdigest(diff.encode())}"


def _packages(record: RunRecord, started: Provenance | None, kept: bool) -> Mapping[str, str]:
    if kept and started is not None and started.packages is not None:
        return started.packages
    return {} if kept else record.versions


def _diff_lines(before: Provenance | None, after: Provenance | None) -> list[str]:
    diffs = [None if one is None or one.git is None else one.git.diff for one in (before, after)]
    if diffs[0] is None or diffs[1] is None or diffs[0] == diffs[1]:
        return []
    lines = difflib.unified_diff(
        diffs[0].splitlines(), diffs[1].splitlines(), "first", "second", lineterm="", n=1
    )
    found = [line for _, line in zip(range(MOST_DIFF_LINES + 1), lines, strict=False)]
    return [*found[:MOST_DIFF_LINES], "..."] if len(found) > MOST_DIFF_LINES else found


def _position(history: RunHistory) -> dict[str, str]:
    place = next((attempt.position for attempt in reversed(history.attempts) if attempt.position), {})
    return {name: str(number) for name, number in place.items()}


def _results(history: RunHistory) -> dict[str, str]:
    record = history.record
    told = {"status": record.status.value, "time boxes": str(len(history.attempts))}
    told["seconds in them"] = f"{history.total_s:.1f}"
    told |= {} if record.last_step is None else {"last step": str(record.last_step)}
    told |= {} if record.last_loss is None else {"last loss": repr(record.last_loss)}
    for name in history.logged_names():
        last = [part[-1] for part in history.by_step(name) if part]
        if last and name != "loss":
            told[f"last {name}"] = repr(last[-1].value)
    return told


def _curves(before: RunHistory, after: RunHistory) -> list[CurveDifference]:
    others = set(after.logged_names())
    return [
        compare_curves(name, _flat(before, name), _flat(after, name))
        for name in before.logged_names()
        if name in others
    ]


def _flat(history: RunHistory, name: str) -> list[Point]:
    return [point for part in history.by_step(name) for point in part]


def compare_curves(name: str, before: Sequence[Point], after: Sequence[Point]) -> CurveDifference:
    """Two curves, step by step where both have a value, and along what both cover."""
    first, second = ({p.step: p.value for p in points if p.step is not None} for points in (before, after))
    common = sorted(step for step in first if step in second)
    differs = next((step for step in common if not _same(first[step], second[step])), None)
    at = None if differs is None else ValuesAt(differs, first[differs], second[differs], between=False)
    return CurveDifference(name, len(common), at, tuple(_places(first, second, common)))


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _places(first: Mapping[int, float], second: Mapping[int, float], common: Sequence[int]) -> list[ValuesAt]:
    if not first or not second:
        return []
    low, high = max(min(first), min(second)), min(max(first), max(second))
    if high < low:
        return []
    places = dict.fromkeys(low + (high - low) * n // (COMPARED_STEPS - 1) for n in range(COMPARED_STEPS))
    exact, found = set(common), []
    for step in places:
        one, other = _value_at(first, step), _value_at(second, step)
        found.append(ValuesAt(step, one, other, between=step not in exact))
    return found


def _value_at(values: Mapping[int, float], step: int) -> float:
    """The value at a step within the curve, on the line between its neighbours where it has none of its own."""
    if step in values:
        return values[step]
    left = max(one for one in values if one < step)
    right = min(one for one in values if one > step)
    share = (step - left) / (right - left)
    return values[left] + share * (values[right] - values[left])
