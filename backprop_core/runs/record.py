"""What is known of a run: the content of `run.json`, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.process import Life, ProcessIdentity
from backprop_core.strict_json import JSON

__all__ = ["AttemptRecord", "Life", "ProcessIdentity", "RunRecord"]

KEPT_CHECKPOINTS = 200


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One process life of a run.

    Attributes:
        number: 1 for the first.
        started_wall, ended_wall: seconds since 1970; `ended_wall` is None while it goes on.
        outcome: how it ended; RUNNING until it has.
        reason: why it ended, one plain sentence.
        process: the training process.
        governor: the process of `backprop run` that watches it, if any.
        budget_s: seconds it may use, None for no limit; `budget_source` says in words where that came from.
        measured: durations and peaks seen, by name, units in the names.
        resumed_from: the checkpoint it began with.
        exit_status: of the training process, 128+n for a signal.
        steps: optimizer steps made in this attempt.
    """

    number: int
    started_wall: float
    process: ProcessIdentity
    ended_wall: float | None = None
    outcome: Outcome = Outcome.RUNNING
    reason: str = ""
    governor: ProcessIdentity | None = None
    budget_s: float | None = None
    budget_source: str = ""
    measured: Mapping[str, JSON] = field(default_factory=dict)
    resumed_from: str | None = None
    exit_status: int | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run.

    Attributes:
        command: argv of the script, beginning with the script itself, as it was given.
        cwd, interpreter: where and with what it was started.
        versions: of the libraries in use, by name.
        git_commit, script_digest: of what was run, to warn on a resume when it has changed.
        options: options of the command line to restore on a resume.
        checkpoint_dir: where checkpoints were asked to go; None for the run's own folder.
        last_step, last_loss, last_checkpoint, checkpoints: the latest news; checkpoints oldest first, also
            those that the script made itself, at most `KEPT_CHECKPOINTS`.
        gpu: name of the GPU that the first attempt with one ran on; the same bits need the same kind.
        foreign: the npm tool's run, known from experiments.json alone.
    """

    id: str
    name: str | None
    status: Outcome
    created_wall: float
    command: tuple[str, ...]
    cwd: str
    interpreter: str
    python_version: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    script_digest: str | None = None
    options: Mapping[str, JSON] = field(default_factory=dict)
    checkpoint_dir: str | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    last_step: int | None = None
    last_loss: float | None = None
    last_checkpoint: str | None = None
    checkpoints: tuple[str, ...] = ()
    gpu: str | None = None
    foreign: bool = False

    @property
    def last_attempt(self) -> AttemptRecord | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def ended_wall(self) -> float | None:
        """When its last attempt ended, seconds since 1970; None while it goes on."""
        return self.attempts[-1].ended_wall if self.attempts else None

    @property
    def used_s(self) -> float:
        """Seconds that its ended attempts took, by the wall clock."""
        return sum(max(0.0, a.ended_wall - a.started_wall) for a in self.attempts if a.ended_wall is not None)

    @property
    def script_path(self) -> str:
        """The script as an absolute path where it is a file, else as it was given."""
        if not self.command:
            return ""
        path = Path(self.cwd, self.command[0])
        try:
            return str(path) if path.is_file() else self.command[0]
        except (OSError, ValueError):
            return self.command[0]

    @property
    def resumable(self) -> bool:
        """Whether `resume` has something to begin with: a script, and a status that allows it."""
        if self.foreign and not self.last_checkpoint:
            return False
        return bool(self.command) and self.status not in (Outcome.COMPLETED, Outcome.RUNNING)


def with_last_attempt(record: RunRecord, attempt: AttemptRecord) -> RunRecord:
    """`record` with its last attempt replaced."""
    return replace(record, attempts=(*record.attempts[:-1], attempt))


def with_checkpoint(record: RunRecord, path: str) -> RunRecord:
    """`record` with `path` as its newest checkpoint; a path that it knew already moves to the end."""
    others = [known for known in record.checkpoints if known != path]
    return replace(record, last_checkpoint=path, checkpoints=(*others, path)[-KEPT_CHECKPOINTS:])


def with_doubtful_checkpoint(record: RunRecord, path: str) -> RunRecord:
    """`record` with `path` before all others: it may be half-written, so any other is better to begin with."""
    others = [known for known in record.checkpoints if known != path]
    checkpoints = (path, *others[-KEPT_CHECKPOINTS + 1 :])
    return replace(record, last_checkpoint=checkpoints[-1], checkpoints=checkpoints)
