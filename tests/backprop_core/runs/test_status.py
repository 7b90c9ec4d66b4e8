"""The table of moves."""

from __future__ import annotations

import pytest

from backprop_core.errors import IllegalMoveError
from backprop_core.outcome import Outcome
from backprop_core.runs.status import MOVES, RunStatus, check_move, npm_status, status_after, status_from_npm


@pytest.mark.parametrize("before", RunStatus)
@pytest.mark.parametrize("after", RunStatus)
def test_moves_outside_the_table_are_refused(before: RunStatus, after: RunStatus) -> None:
    """Every pair of states is either in the table or refused with both names in the sentence."""
    if after in MOVES[before]:
        check_move("r", before, after)
    else:
        with pytest.raises(IllegalMoveError) as caught:
            check_move("r", before, after)
        assert before in str(caught.value)
        assert after in str(caught.value)


def test_one_end_is_never_turned_into_another() -> None:
    """Every end is reached from running alone, and leads to nothing but a new attempt."""
    for status in set(RunStatus) - {RunStatus.RUNNING}:
        assert MOVES[status] == {RunStatus.RUNNING}
    assert RunStatus.RUNNING not in MOVES[RunStatus.RUNNING]


def test_every_outcome_and_status_has_its_words() -> None:
    """Outcomes map to statuses one to one, and every status has a word of the npm tool."""
    assert {status_after(outcome) for outcome in Outcome} == set(RunStatus)
    words = {"running", "completed", "failed", "timeboxed", "stopped"}
    assert {npm_status(status) for status in RunStatus} == words


@pytest.mark.parametrize("word", ["running", "paused", None, 3, ["completed"]])
def test_unverifiable_words_of_the_npm_tool_mean_lost(word: object) -> None:
    """A run that the npm tool calls running cannot be verified, and odd words mean nothing."""
    assert status_from_npm(word) is RunStatus.LOST
