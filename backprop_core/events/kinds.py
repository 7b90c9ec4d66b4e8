"""Every event of a run: one frozen dataclass for each kind of line in `events.jsonl` and `governor.jsonl`.

A line holds `kind`, `wall`, `monotonic` and the fields of its class. Lines are read by older and newer versions: a field
may be added, none is renamed, none changes its meaning, and a reader takes what it knows. docs/events.md is made from this
file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_type_hints

from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import as_float, as_list, as_object, as_text, as_whole

VERSION = 1
"""Of the events. It is raised where an older reader would misunderstand a line."""


def _absent() -> Any:
    """A field that is left out of the line where there is nothing to say."""
    return field(default=None, metadata={"absent": True})


@dataclass_transform(frozen_default=True, eq_default=False)
class Event:
    """Something that happened. Every class below this one is a frozen dataclass: it is made so where it is defined, with the
    comparison and the text of this class, because making them for each would be most of the cost of this import.
    """

    kind: ClassVar[str]
    _names: ClassVar[tuple[str, ...]]
    _absent: ClassVar[frozenset[str]]

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, eq=False, repr=False)(cls)
        declared = fields(cls)  # type: ignore[arg-type]
        cls._names = tuple(one.name for one in declared)
        cls._absent = frozenset(one.name for one in declared if one.metadata.get("absent"))

    def facts(self) -> dict[str, Any]:
        """The fields of its line, beside `kind`, `wall` and `monotonic`."""
        values, absent = self.__dict__, self._absent
        return {name: values[name] for name in self._names if values[name] is not None or name not in absent}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={self.__dict__[name]!r}' for name in self._names)})"
        )

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


# Written by the training process, into events.jsonl


class Message(Event):
    """A line was printed for the user.

    Attributes:
        text: its text, without the leading `backprop: `.
        level: `info` or `warning`.
    """

    kind = "message"
    text: str
    level: str


class CheckpointRestored(Event):
    """Training continues from a checkpoint.

    Attributes:
        path: its folder or address.
        step: its step.
    """

    kind = "checkpoint_restored"
    path: str
    step: int


class SessionStarted(Event):
    """A box was opened: training starts or continues. A script may open several, one after another.

    Attributes:
        pid: the process that trains.
        child_of: the script's main process, if the training runs in a child process; else null.
        budget_s: length of the box in seconds.
        budget_source: what set the budget.
        deadline_wall: the deadline in seconds since 1970, or null if there is none.
        resumed_from: the checkpoint that training continues from, or null.
        box: 1 for the first box of its process.
        framework: the framework of its adapter.
        attached: true if backprop attached to an unmodified script.
        message: the line that was printed.
        events_version: version of the events that follow; files without it have version 1.
    """

    kind = "session_started"
    pid: int | None
    child_of: int | None
    budget_s: float | None
    budget_source: str | None
    deadline_wall: float | None
    resumed_from: str | None
    box: int | None
    framework: str | None
    attached: bool | None
    message: str | None
    events_version: int = VERSION


class TrainingStarted(Event):
    """The first step of the box is done.

    Attributes:
        step: the number of that step.
        after_s: seconds since the start of the box: start-up and that step.
    """

    kind = "training_started"
    step: int | None
    after_s: float | None


class TrackerRun(Event):
    """The script itself logs this training to a tracker.

    Attributes:
        tracker: `wandb`, `mlflow` or `comet`.
        id: id of the tracker's run.
    """

    kind = "tracker_run"
    tracker: str
    id: str


class Progress(Event):
    """Progress of the training, about once a second.

    Attributes:
        step: the last completed step.
        epoch: the current epoch, or null.
        batch: completed batches of that epoch, or null.
        loss: the value logged as `loss`, or null.
        values: the newest logged values by name, numbers and texts; and the optimizer's `learning_rate` for the next step,
            if nothing is logged under that name.
        remaining_s: seconds until the deadline.
        rate: steps per second since the first step of the box, or null.
        next_save_s: seconds until the next periodic checkpoint; null if the next one is the last one of the box.
    """

    kind = "progress"
    step: int | None
    epoch: int | None
    batch: int | None
    loss: float | None
    values: Mapping[str, Any]
    remaining_s: float | None
    rate: float | None
    next_save_s: float | None


class Fit(Event):
    """How many steps fit into the box. Written once, when the rate is known.

    Attributes:
        steps_that_fit: further steps expected in this box.
        total_steps: steps of the whole training, or null if unknown.
        boxes: boxes of this length that the training needs, including this one; null if one is enough or the total is
            unknown.
    """

    kind = "fit"
    steps_that_fit: int | None
    total_steps: int | None
    boxes: int | None


class CheckpointSaved(Event):
    """A checkpoint is complete on disk.

    Attributes:
        path: its folder or address.
        step: its step.
        reason: `periodic`, `requested`, `deadline`, `preempted`, `survivor` or `final`.
        nbytes: its size in bytes.
        seconds: duration of the save.
    """

    kind = "checkpoint_saved"
    path: str
    step: int | None
    reason: str | None
    nbytes: int | None
    seconds: float | None


class CheckpointFailed(Event):
    """A checkpoint could not be saved. Training continues.

    Attributes:
        error: what happened and where.
    """

    kind = "checkpoint_failed"
    error: str


class SavesPutOff(Event):
    """Periodic checkpoints were due while the previous one was still being written. Written once.

    Attributes:
        times: how often.
        save_s: duration of a save in seconds.
        asked_every_s: the requested interval in seconds, or null.
    """

    kind = "saves_put_off"
    times: int
    save_s: float | None
    asked_every_s: float | None


class Extended(Event):
    """The deadline has moved.

    Attributes:
        extended_s: by how many seconds.
        slept: true if the process was suspended from outside; false if more time was requested.
    """

    kind = "extended"
    extended_s: float | None
    slept: bool | None


class Paused(Event):
    """Training is paused and its budget waits. With a session, both files have this event.

    Attributes:
        why: the reason in a sentence; only in the governor's line.
    """

    kind = "paused"
    why: str | None = _absent()


class Continued(Event):
    """Training continues after a pause.

    Attributes:
        why: the reason of the pause; only in the governor's line.
        paused_s: length of the pause in seconds; only in the session's line.
    """

    kind = "continued"
    why: str | None = _absent()
    paused_s: float | None = _absent()


class Stopping(Event):
    """Training is about to leave its loop. The last save follows.

    Attributes:
        reason: the reason of the last checkpoint, as in `checkpoint_saved`.
        text: why, in a sentence.
    """

    kind = "stopping"
    reason: str | None
    text: str | None


class SessionWithdrawn(Event):
    """backprop stepped aside. The training continues without a session."""

    kind = "session_withdrawn"


class Ended(Event):
    """A box ended.

    Attributes:
        outcome: `completed`, `timeboxed`, `preempted`, `stopped` or `failed`.
        reason: why, in a sentence; may be empty.
        steps: steps made in this box.
        step: the last step.
        loss: the value logged last as `loss`, or null.
        checkpoint: the newest checkpoint, or null.
        checkpoint_step: its step.
        checkpoint_age_s: its age in seconds.
        used_s: seconds since the start of the box.
        slack_s: seconds left until the deadline.
        reserve_s: seconds left when the last save began, or null.
        values: the newest logged values by name, numbers and texts; and the optimizer's `learning_rate` for the next step,
            if nothing is logged under that name.
        measured: measurements that the next box's forecast starts from: see `Priors` in `runs/measured.py`.
    """

    kind = "session_finished"
    outcome: str
    reason: str
    steps: int | None
    step: int | None
    loss: float | None
    checkpoint: str | None
    checkpoint_step: int | None
    checkpoint_age_s: float | None
    used_s: float | None
    slack_s: float | None
    reserve_s: float | None
    values: Mapping[str, Any]
    measured: Mapping[str, Any]


# Written by the governor, into governor.jsonl


class AttemptStarted(Event):
    """The governor starts an attempt. The script is about to start.

    Attributes:
        run_id: id of the run.
        name: the label given by the user, or null.
        attempt: 1 for the first.
        budget_s: seconds until the deadline.
        resumed_from: the checkpoint that the attempt is to continue from, or null.
        events_version: version of the events that follow.
    """

    kind = "attempt_started"
    run_id: str
    name: str | None
    attempt: int
    budget_s: float | None
    resumed_from: str | None
    events_version: int = VERSION


class AttemptEnded(Event):
    """An attempt ended, and no process of its script is left. The last line of the file.

    Attributes:
        run_id: id of the run.
        name: the label given by the user, or null.
        attempt: 1 for the first.
        outcome: `completed`, `timeboxed`, `preempted`, `stopped` or `failed`.
        reason: why, in a sentence.
        exit_status: the script's; 128 plus the signal's number if a signal ended it; null if it never started.
        step: the last known step, or null.
        loss: the last known loss, or null.
        checkpoint: the newest checkpoint, or null.
        seconds: from the start of the script until it had exited, including pauses.
        resumable: true if there is a checkpoint to continue from.
        next: the command that continues, or null if nothing is left to do.
    """

    kind = "attempt_ended"
    run_id: str
    name: str | None
    attempt: int
    outcome: str
    reason: str
    exit_status: int | None
    step: int | None
    loss: float | None
    checkpoint: str | None
    seconds: float | None
    resumable: bool | None
    next: str | None


class Sampled(Event):
    """The state of the machine, once a second.

    Attributes:
        rss_bytes: resident memory of the script and its children, in bytes.
        processes: number of these processes.
        memory_free_bytes: free memory of the machine or of the container, in bytes.
        load_1m: load average of the last minute.
        cpu_energy_j: energy used by the machine's processors since the governor's first reading, in joules, if they
            report it.
        gpus: an object for each GPU with `uuid`, `own` (true if the run was given it; not in files of older versions),
            `temperature_c`, `memory_used_bytes`, `utilization_percent`, `power_w`.
    """

    kind = "sample"
    rss_bytes: int | None
    processes: int | None
    memory_free_bytes: int | None
    load_1m: float | None
    cpu_energy_j: float | None = _absent()
    gpus: tuple[Mapping[str, Any], ...] | None = _absent()


class PrintedProgress(Event):
    """A script without a session printed a new step or loss as JSON. Recorded about once a second.

    Attributes:
        step: the newest printed step, or null.
        loss: the newest printed loss, or null.
    """

    kind = "printed_progress"
    step: int | None
    loss: float | None


class Complained(Event):
    """Something is wrong with the machine or with the run's use of it. The run continues.

    Attributes:
        reason: a sentence.
    """

    kind = "complaint"
    reason: str


class PauseDecided(Event):
    """The state of the machine requires a pause.

    Attributes:
        reason: a sentence.
    """

    kind = "pause"
    reason: str


class ContinueDecided(Event):
    """The state of the machine allows the run to continue.

    Attributes:
        reason: a sentence.
    """

    kind = "continue"
    reason: str


class StopDecided(Event):
    """The state of the machine requires a checkpoint and a stop.

    Attributes:
        reason: a sentence.
    """

    kind = "stop"
    reason: str


class Survived(Event):
    """A training died suddenly, and its copy in memory was examined. If the governor is dead, a keeper writes this.

    Attributes:
        path: the checkpoint made from the copy, or null: an equally new one existed, or the copy was refused.
        step: the step of that checkpoint, or null.
        nbytes: its size in bytes.
        seconds: how long saving it took.
        died_at: the step that training had reached, or null if unknown.
        exact: true if `died_at` is exact; false if training may have been a little further.
        trouble: a sentence about a copy that was refused or could not be saved; else empty.
        compared_at: arrays that looked unchanged were last compared in full at this step, or later; null if every byte
            was copied for this checkpoint.
    """

    kind = "survivor"
    path: str | None
    step: int | None
    nbytes: int | None
    seconds: float | None
    died_at: int | None
    exact: bool | None
    trouble: str | None
    compared_at: int | None = None


SESSION_EVENTS: tuple[type[Event], ...] = (
    SessionStarted, CheckpointRestored, Message, TrainingStarted, TrackerRun, Progress, Fit, CheckpointSaved,
    CheckpointFailed, SavesPutOff, Extended, Paused, Continued, Stopping, SessionWithdrawn, Ended,
)  # fmt: skip
"""What the training process writes."""
GOVERNOR_EVENTS: tuple[type[Event], ...] = (
    AttemptStarted, Sampled, PrintedProgress, Complained, PauseDecided, ContinueDecided, StopDecided, Paused, Continued,
    Survived, AttemptEnded,
)  # fmt: skip
"""What the governor writes."""
KINDS: Mapping[str, type[Event]] = {event.kind: event for event in (*SESSION_EVENTS, *GOVERNOR_EVENTS)}


# Reading

_Kind = TypeVar("_Kind", bound=Event)


def _as_bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _as_objects(value: object) -> tuple[Mapping[str, Any], ...] | None:
    return tuple(map(as_object, as_list(value))) or None


_READERS: Mapping[Any, Callable[[object], Any]] = {
    str: as_text, int: as_whole, float: as_float, bool: _as_bool,
    str | None: as_text, int | None: as_whole, float | None: as_float, bool | None: _as_bool,
    Mapping[str, Any]: as_object, tuple[Mapping[str, Any], ...] | None: _as_objects,
}  # fmt: skip
_shapes: dict[type[Event], tuple[tuple[str, Callable[[object], Any], bool, Any], ...]] = {}


def read(line: Mapping[str, Any]) -> Event | None:
    """The event of a line that was decoded; None for a kind that is not known here and for one that lacks what it must have.

    A field that is missing, as in files of older versions, or not of its type is None.
    """
    kind = KINDS.get(line["kind"]) if isinstance(line.get("kind"), str) else None
    return None if kind is None else read_as(kind, line)


def read_as(kind: type[_Kind], line: Mapping[str, Any]) -> _Kind | None:
    """The event of a line that is of a known kind, or None."""
    if line.get("kind") != kind.kind:
        return None
    values = {}
    for name, reader, required, default in _shape(kind):
        value = reader(line.get(name))
        value = default if value is None else value
        if value is None and required:
            return None
        values[name] = value
    return kind(**values)


def _shape(kind: type[Event]) -> tuple[tuple[str, Callable[[object], Any], bool, Any], ...]:
    known = _shapes.get(kind)
    if known is None:
        types = get_type_hints(kind)
        known = _shapes[kind] = tuple(
            (
                one.name,
                _READERS[types[one.name]],
                types[one.name] in (str, int),
                one.default if isinstance(one.default, int) else None,
            )
            for one in fields(kind)  # type: ignore[arg-type]
        )
    return known
