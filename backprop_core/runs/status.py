"""The states of a run and the moves between them. Whoever stores a run asks `check_move` first."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from backprop_core.errors import IllegalMoveError
from backprop_core.outcome import Outcome


class RunStatus(StrEnum):
    """What a run is doing, or how its last attempt ended. The words are those of `Outcome`."""

    RUNNING = "running"
    COMPLETED = "completed"
    TIMEBOXED = "timeboxed"
    PREEMPTED = "preempted"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


_ENDS = frozenset(RunStatus) - {RunStatus.RUNNING}
_AGAIN = frozenset({RunStatus.RUNNING})

MOVES: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.RUNNING: _ENDS,
    RunStatus.COMPLETED: _AGAIN,  # whoever asks for it must have said so in so many words: see `RunRecord.resumable`
    RunStatus.TIMEBOXED: _AGAIN,
    RunStatus.PREEMPTED: _AGAIN,
    RunStatus.STOPPED: _AGAIN,
    RunStatus.FAILED: _AGAIN,
    RunStatus.LOST: _AGAIN,
}

# The npm tool has five words. A preempted run was stopped from outside; a lost one did not end well.
_NPM_WORDS: Mapping[RunStatus, str] = {
    RunStatus.RUNNING: "running",
    RunStatus.COMPLETED: "completed",
    RunStatus.TIMEBOXED: "timeboxed",
    RunStatus.PREEMPTED: "stopped",
    RunStatus.STOPPED: "stopped",
    RunStatus.FAILED: "failed",
    RunStatus.LOST: "failed",
}


def check_move(run_id: str, before: RunStatus, after: RunStatus) -> None:
    """Raise IllegalMoveError unless a run may go from `before` to `after`."""
    if after in MOVES[before]:
        return
    if before is after is RunStatus.RUNNING:
        hint = "Its running attempt has to be finished first."
    else:
        hint = f"From here it can only become: {', '.join(sorted(MOVES[before]))}."
    raise IllegalMoveError(f"Run {run_id} is {before} and cannot become {after}.", hint)


def status_after(outcome: Outcome) -> RunStatus:
    """The status of a run whose last attempt ended with `outcome`."""
    return RunStatus(outcome.value)


def npm_status(status: RunStatus) -> str:
    """`status` in the words of the npm tool: running, completed, failed, timeboxed or stopped."""
    return _NPM_WORDS[status]


def status_from_npm(word: object) -> RunStatus:
    """The status of a run that the npm tool wrote.

    Its `running` cannot be verified, because it keeps no process identity: such a run is taken for lost. So
    is any word that the npm tool does not use.
    """
    if word in ("completed", "failed", "timeboxed", "stopped"):
        return RunStatus(str(word))
    return RunStatus.LOST
