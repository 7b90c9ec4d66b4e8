"""The states of a run and the moves between them. Whoever stores a run asks `check_move` first."""

from __future__ import annotations

from collections.abc import Mapping

from backprop_core.errors import IllegalMoveError
from backprop_core.outcome import Outcome

_ENDS = frozenset(Outcome) - {Outcome.RUNNING}
_AGAIN = frozenset({Outcome.RUNNING})

MOVES: Mapping[Outcome, frozenset[Outcome]] = {
    Outcome.RUNNING: _ENDS,
    Outcome.COMPLETED: _AGAIN,  # whoever asks for it must have said so in so many words: see `RunRecord.resumable`
    Outcome.TIMEBOXED: _AGAIN,
    Outcome.PREEMPTED: _AGAIN,
    Outcome.STOPPED: _AGAIN,
    Outcome.FAILED: _AGAIN,
    Outcome.LOST: _AGAIN,
}

# The npm tool has five words. A preempted run was stopped from outside; a lost one did not end well.
_NPM_WORDS: Mapping[Outcome, str] = {
    Outcome.RUNNING: "running",
    Outcome.COMPLETED: "completed",
    Outcome.TIMEBOXED: "timeboxed",
    Outcome.PREEMPTED: "stopped",
    Outcome.STOPPED: "stopped",
    Outcome.FAILED: "failed",
    Outcome.LOST: "failed",
}


def check_move(run_id: str, before: Outcome, after: Outcome) -> None:
    """Raise IllegalMoveError unless a run may go from `before` to `after`."""
    if after in MOVES[before]:
        return
    if before is after is Outcome.RUNNING:
        hint = "Its running attempt has to be finished first."
    else:
        hint = f"From here it can only become: {', '.join(sorted(MOVES[before]))}."
    raise IllegalMoveError(f"Run {run_id} is {before} and cannot become {after}.", hint)


def npm_status(status: Outcome) -> str:
    """`status` in the words of the npm tool: running, completed, failed, timeboxed or stopped."""
    return _NPM_WORDS[status]


def status_from_npm(word: object) -> Outcome:
    """The status of a run that the npm tool wrote.

    Its `running` cannot be verified, because it keeps no process identity: such a run is taken for lost. So
    is any word that the npm tool does not use.
    """
    if word in ("completed", "failed", "timeboxed", "stopped"):
        return Outcome(str(word))
    return Outcome.LOST
