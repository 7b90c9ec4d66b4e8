"""The table of moves."""

from __future__ import annotations

import pytest

from backprop_core.errors import IllegalMoveError
from backprop_core.outcome import Outcome
from backprop_core.runs.status import MOVES, check_move, npm_status, status_from_npm


@pytest.mark.parametrize("before", Outcome)
@pytest.mark.parametrize("after", Outcome)
def test_moves_outside_the_table_are_refused(before: Outcome, after: Outcome) -> None:
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
    for status in set(Outcome) - {Outcome.RUNNING}:
        assert MOVES[status] == {Outcome.RUNNING}
    assert Outcome.RUNNING not in MOVES[Outcome.RUNNING]


def test_every_status_has_its_words() -> None:
    """Every status has a word of the npm tool."""
    words = {"running", "completed", "failed", "timeboxed", "stopped"}
    assert {npm_status(status) for status in Outcome} == words


@pytest.mark.parametrize("word", ["running", "paused", None, 3, ["completed"]])
def test_unverifiable_words_of_the_npm_tool_mean_lost(word: object) -> None:
    """A run that the npm tool calls running cannot be verified, and odd words mean nothing."""
    assert status_from_npm(word) is Outcome.LOST
