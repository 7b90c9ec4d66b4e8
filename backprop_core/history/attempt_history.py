"""One attempt as its files tell it: what it logged, what the machine did, when it saved, paused and ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path

from backprop_core.events.kinds import (
    CheckpointRestored,
    CheckpointSaved,
    Complained,
    Continued,
    Ended,
    Fit,
    Message,
    Paused,
    PrintedProgress,
    Progress,
    Sampled,
    SessionStarted,
)
from backprop_core.history.curve import BoundedCurve, Point
from backprop_core.history.energy import PowerMeter
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.attempt import EVENTS_FILE, GOVERNOR_FILE
from backprop_core.runs.events import Line, last_events, read_events
from backprop_core.runs.record import AttemptRecord
from backprop_core.strict_json import (
    as_duration,
    as_float,
    as_instant,
    as_list,
    as_number,
    as_object,
    as_place,
    as_text,
    as_whole,
)

MOST_VALUES = 200
"""Names of logged values that are kept: a script that makes up a name a step must not fill the memory."""
_GPU_FACTS = {
    "temperature_c": "GPU temperature",
    "memory_used_bytes": "GPU memory",
    "utilization_percent": "GPU utilization",
    "power_w": "GPU power",
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was announced. `at_s` as in `Point`; `why` is the reason it was made for."""

    path: str
    step: int | None
    at_s: float
    wall: float | None
    why: str
    nbytes: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which the attempt was held up. `at_s` as in `Point`; `seconds` is None while it lasts."""

    at_s: float
    seconds: float | None
    why: str


@dataclass(slots=True)
class AttemptHistory:
    """What is known of one attempt.

    Attributes:
        record: its part of the run's record.
        offset_s: seconds that the attempts before it took.
        total_s: seconds from its beginning to its end, pauses included.
        logged: a curve for each value that was logged.
        machine: a curve for each thing that was measured.
        checkpoints, pauses: oldest first.
        warnings: what the session warned of and what the governor complained about, each once.
        resumed_step: the step that it went on from; None for a beginning, and where it is not known.
        began_s: seconds until its first session began; None without one.
        finished_s: seconds until its last session said its last word; None without one.
        facts: those of its last `session_started` and `session_finished`.
        left_out: names of logged values beyond `MOST_VALUES`.
        gpu_power, cpu_power: the energy of its GPUs by UUID, and of the machine's processors; empty where nothing told.
        position: step, epoch and batch that it told last, as far as it did.
    """

    record: AttemptRecord
    offset_s: float
    total_s: float
    logged: dict[str, BoundedCurve] = field(default_factory=dict)
    machine: dict[str, BoundedCurve] = field(default_factory=dict)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    resumed_step: int | None = None
    began_s: float | None = None
    finished_s: float | None = None
    facts: dict[str, object] = field(default_factory=dict)
    left_out: int = 0
    gpu_power: dict[str, PowerMeter] = field(default_factory=dict)
    cpu_power: PowerMeter = field(default_factory=PowerMeter)
    position: dict[str, int] = field(default_factory=dict)

    @property
    def end_s(self) -> float:
        """When it ended, in seconds as in `Point`."""
        return self.offset_s + self.total_s


def attempt_history(folder: Path, record: AttemptRecord, offset_s: float, total_s: float) -> AttemptHistory:
    """Read the attempt in `folder`. Never raises for what its files hold: what makes no sense is passed over."""
    history = AttemptHistory(record, offset_s, total_s)
    reader = _Reader(history)
    for event in attempt_events(folder / EVENTS_FILE):
        reader.session_event(event)
    told = bool(history.pauses)
    session_pauses, history.pauses = history.pauses, []
    for event in attempt_events(folder / GOVERNOR_FILE):
        reader.governor_event(event)
    if told and not history.pauses:  # the governor's word goes before: it says why
        history.pauses = session_pauses
    reader.close_pause()
    return history


def attempt_events(path: Path) -> Iterator[Line]:
    """All events of one of an attempt's files, oldest first: the only place where histories read them."""
    return read_events(path)


def recent_losses(folder: Path, *, last_bytes: int = 64 * 1024) -> list[Point]:
    """The losses of the last minutes of the attempt in `folder`; `at_s` counts from the first of them."""
    found: list[Point] = []
    for name, kind in ((EVENTS_FILE, Progress.kind), (GOVERNOR_FILE, PrintedProgress.kind)):
        start: float | None = None
        for event in last_events(folder / name, last_bytes=last_bytes):
            loss, now = as_number(event.get("loss")), as_number(event.get("monotonic"))
            if event["kind"] == kind and loss is not None and now is not None:
                start = now if start is None else start
                found.append(Point(as_whole(event.get("step")), now - start, loss))
        if found:
            break
    return found


class _Reader:
    """Sorts events into a history."""

    def __init__(self, history: AttemptHistory) -> None:
        self._history = history
        self._start: float | None = None
        self._paused: tuple[float, str] | None = None
        self._names: defaultdict[str, None] = defaultdict()

    def session_event(self, event: Line) -> None:
        at_s = self._at_s(event)
        match event["kind"]:
            case Progress.kind:
                self._progress(event, at_s)
            case CheckpointSaved.kind:
                self._checkpoint(event, at_s)
            case CheckpointRestored.kind:
                if self._history.resumed_step is None:
                    self._history.resumed_step = as_whole(event.get("step"))
            case SessionStarted.kind:
                self._history.began_s = self._history.began_s or at_s - self._history.offset_s
                self._history.facts["started"] = event
            case Ended.kind:
                self._history.finished_s = at_s - self._history.offset_s
                self._history.facts["finished"] = event
            case Fit.kind:
                self._history.facts["fit"] = event
            case Message.kind if event.get("level") == "warning":
                self._warn(event.get("text"))
            case kind:
                self._pause(kind, event, at_s)

    def governor_event(self, event: Line) -> None:
        at_s = self._at_s(event)
        match event["kind"]:
            case Sampled.kind:
                self._sample(event, at_s)
            case PrintedProgress.kind:
                self._progress(event, at_s)
            case Complained.kind:
                self._warn(event.get("reason"))
            case CheckpointSaved.kind:
                self._checkpoint(event, at_s)
            case kind:
                self._pause(kind, event, at_s)

    def close_pause(self) -> None:
        """A pause that nobody has ended lasted to the end of an attempt that is over."""
        if self._paused is None:
            return
        began_s, why = self._paused
        over = self._history.record.ended_wall is not None
        lasted_s = max(0.0, self._history.end_s - began_s) if over else None
        self._history.pauses.append(Pause(began_s, lasted_s, why))

    def _at_s(self, event: Line) -> float:
        """Seconds as in `Point`, by the monotonic clock, which all processes of a machine share."""
        history = self._history
        now, wall = as_number(event.get("monotonic")), as_instant(event.get("wall"))
        if now is None:
            return history.offset_s
        if self._start is None:
            since = (
                0.0 if wall is None else max(0.0, min(wall - history.record.started_wall, history.total_s))
            )
            self._start = now - since
        return history.offset_s + max(0.0, now - self._start)

    def _progress(self, event: Line, at_s: float) -> None:
        step = as_whole(event.get("step"), least=0)
        told = {name: as_whole(event.get(name), least=0) for name in ("step", "epoch", "batch")}
        self._history.position |= {name: number for name, number in told.items() if number is not None}
        values = dict(as_object(event.get("values")))
        if event.get("loss") is not None:
            values.setdefault("loss", event["loss"])
        for name, value in values.items():
            number = as_float(value)
            if number is not None:
                self._add(self._history.logged, name, Point(step, at_s, number))
        rate = as_number(event.get("rate"))
        if rate is not None:
            self._add(self._history.machine, "steps per second", Point(step, at_s, rate))

    def _sample(self, event: Line, at_s: float) -> None:
        machine = self._history.machine
        for key, name in (("rss_bytes", "memory"), ("memory_free_bytes", "free memory"), ("load_1m", "load")):
            number = as_number(event.get(key))
            if number is not None:
                self._add(machine, name, Point(None, at_s, number))
        joules = as_number(event.get("cpu_energy_j"))
        if joules is not None:
            self._history.cpu_power.counter(at_s, joules)
        for place, gpu in enumerate(map(as_object, as_list(event.get("gpus")))):
            if gpu.get("own") is False:
                continue
            label = (as_text(gpu.get("uuid")) or str(place))[:12]
            watts = as_number(gpu.get("power_w"))
            if watts is not None and len(self._history.gpu_power) < MOST_VALUES:
                self._history.gpu_power.setdefault(label, PowerMeter()).power(at_s, watts)
            for key, what in _GPU_FACTS.items():
                number = as_number(gpu.get(key))
                if number is not None:
                    self._add(machine, f"{what} {label}", Point(None, at_s, number))

    def _add(self, curves: dict[str, BoundedCurve], name: str, point: Point) -> None:
        if name not in curves:
            if len(curves) >= MOST_VALUES:
                self._names[name] = None
                self._history.left_out = min(len(self._names), 10 * MOST_VALUES)
                return
            curves[name] = BoundedCurve()
        curves[name].add(point)

    def _checkpoint(self, event: Line, at_s: float) -> None:
        path = as_place(event.get("path"))
        if path is None:
            return
        self._history.checkpoints.append(
            Checkpoint(
                path,
                as_whole(event.get("step"), least=0),
                at_s,
                as_instant(event.get("wall")),
                as_text(event.get("reason")) or "",
                as_whole(event.get("nbytes"), least=0),
                as_duration(event.get("seconds")),
            )
        )

    def _pause(self, kind: str, event: Line, at_s: float) -> None:
        if kind == Paused.kind and self._paused is None:
            self._paused = (at_s, as_text(event.get("why")) or as_text(event.get("reason")) or "")
        elif kind == Continued.kind and self._paused is not None:
            began_s, why = self._paused
            self._history.pauses.append(Pause(began_s, max(0.0, at_s - began_s), why))
            self._paused = None

    def _warn(self, text: object) -> None:
        said = as_text(text)
        if said and said not in self._history.warnings and len(self._history.warnings) < MOST_VALUES:
            self._history.warnings.append(said)


def facts_of(history: AttemptHistory, name: str) -> Mapping[str, object]:
    """The facts of the event `started`, `finished` or `fit`; none where there was no such event."""
    return as_object(history.facts.get(name))
