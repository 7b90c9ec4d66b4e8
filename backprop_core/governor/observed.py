"""What is known about an attempt while it runs and when it is over, gathered from events, output and the
kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from backprop_core.events.kinds import (
    CheckpointSaved,
    Ended,
    Progress,
    SessionStarted,
    SessionWithdrawn,
    TrainingStarted,
)
from backprop_core.governor.stdout_messages import Heard
from backprop_core.governor.survivor_commit import Survival
from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.samples import GpuSample
from backprop_core.strict_json import as_duration, as_number, as_place, as_whole

Line = Mapping[str, Any]
"""A decoded line of the events file."""


class EndCause(StrEnum):
    """Why the governor wanted the attempt to end."""

    DEADLINE = "deadline"
    USER = "user"
    REQUEST = "request"
    TERMINATED = "terminated"
    WARNED = "warned"
    HANGUP = "hangup"
    MEMORY = "memory"
    NOTICE = "notice"


@dataclass(slots=True)
class SessionView:
    """The session inside the script, as its events tell.

    Attributes:
        started: the event `session_started`, or None for a script that never heard of backprop.
        finished: the event `session_finished` of the latest session, or None while it runs.
        progress: the latest event `progress`.
        checkpoints: paths of the checkpoints of this attempt, oldest first.
        save_s: seconds that the latest took.
        trains_since: the monotonic instant at which its first step was over, or None.
    """

    started: Line | None = None
    finished: Line | None = None
    progress: Line | None = None
    checkpoints: list[str] = field(default_factory=list)
    save_s: float = 0.0
    trains_since: float | None = None

    @property
    def ends_itself(self) -> bool:
        """Whether the script will leave in time without being asked: its session runs, or has just cut it
        short.
        """
        if self.started is None:
            return False
        return self.finished is None or self.finished.get("outcome") in ("timeboxed", "preempted", "stopped")

    @property
    def child(self) -> int | None:
        """The process of the session, where it is one that the script's main process has started and waits for."""
        started = self.started or {}
        pid = as_whole(started.get("pid"))
        return None if as_whole(started.get("child_of")) is None else pid

    @property
    def left_in_child(self) -> bool:
        """Whether a training in such a process was cut off: the main process would go on as if it were over."""
        early = ("timeboxed", "preempted", "stopped")
        return self.child is not None and self.finished is not None and self.finished.get("outcome") in early

    def exit_s(self, ended_at: float) -> float | None:
        """What the script took to end after its session was over; the next attempt keeps that much back."""
        said_at = None if self.finished is None else as_number(self.finished.get("monotonic"))
        return None if said_at is None else max(0.0, ended_at - said_at)

    def take(self, event: Line) -> None:
        """Take in one event."""
        kind = event.get("kind")
        if kind == SessionStarted.kind:
            self.started, self.finished = event, None
        elif kind == Ended.kind:
            self.finished = event
        elif kind == SessionWithdrawn.kind:
            self.started = self.finished = None
        elif kind == TrainingStarted.kind:
            self.trains_since = self.trains_since or as_number(event.get("monotonic"))
        elif kind == Progress.kind:
            self.progress = event
        elif kind == CheckpointSaved.kind and (path := as_place(event.get("path"))) is not None:
            self.checkpoints.append(path)
            self.save_s = as_duration(event.get("seconds")) or self.save_s


@dataclass(slots=True)
class ObservedPause:
    """A time in which the script was held up. `seconds` is None while it lasts."""

    why: str
    began: float
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A run as it stands, for whoever shows it.

    Attributes:
        now, deadline: instants on the monotonic clock.
        session, heard: what its session and its output have said.
        paused: it is held up.
        starting: its box counts from the first step, which has not come; nobody knows the end of it yet.
        quiet: its output stands at the start of a line, and nothing waits to be shown.
        in_bar: or it stands in a progress bar of one line.
        memory_bytes: of all its processes; 0 while it is not known.
        gpus: those it was given.
    """

    now: float
    deadline: float
    session: SessionView
    heard: Heard
    paused: bool = False
    starting: bool = False
    quiet: bool = True
    in_bar: bool = False
    memory_bytes: int = 0
    gpus: tuple[GpuSample, ...] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, before anybody has put it into words.

    Attributes:
        returncode: the script's exit status, or minus the number of the signal that ended it.
        cause: why the governor asked it to end, or None if it ended by itself.
        detail: a sentence from whoever asked, or the signal's name, or empty.
        killed: the governor used SIGKILL.
        session, heard: what the script's session and its output said.
        exit_s: seconds from the session's last word to the end of the script, or None without a session.
        used_s: seconds from the start until the last process was gone, pauses included.
        unused_s: seconds left until the deadline then.
        leftovers: command lines of processes of the script that had to be ended after it.
        pauses: when and why it was held up.
        lost_bytes: of its output that could not be kept.
        tail: the last of what it printed.
        survival: what came of the copy that a training which died without a word had left in memory; None for no such death.
        pid: of the process that was started, which may be a launcher.
    """

    returncode: int
    cause: EndCause | None
    detail: str
    killed: bool
    session: SessionView
    heard: Heard
    exit_s: float | None
    used_s: float
    unused_s: float
    leftovers: tuple[str, ...]
    pauses: tuple[ObservedPause, ...]
    lost_bytes: int
    tail: bytes
    survival: Survival | None = None
    pid: int | None = None
