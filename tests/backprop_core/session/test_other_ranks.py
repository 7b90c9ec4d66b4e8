"""A rank that is not the first knows what the first one has said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backprop_core.outcome import Outcome
from backprop_core.ports.ranks import LastWord
from backprop_core.session.other_ranks import FollowingSession
from backprop_core.session.rank_talk import Opening
from backprop_core.session.settings import make_settings
from backprop_core.testing.clock import FakeClock
from backprop_core.testing.counting_state import CountingState


class FirstRank:
    """Stands for the first of two processes."""

    count, rank = 2, 1

    def __init__(self, *left_s: float) -> None:
        self._left_s = list(left_s)

    def share(self, opening: Any) -> Opening:
        return Opening(left_s=60.0, run_id="shared", budget_s=60.0)

    def agree(self, why_not: str) -> str:
        return ""

    def hear(self, number: int) -> int:
        return 0

    def follow(self, give: Callable[[], Any]) -> LastWord:
        return LastWord(False, 1, Outcome.RUNNING, self._left_s.pop(0))


def test_what_is_left_knows_of_pauses_and_extensions() -> None:
    """After each talk it is what the first rank has left, whatever the clocks of the two machines say."""
    clock = FakeClock()
    ranks: Any = FirstRank(110.0, 100.0)
    state: Any = CountingState()
    session = FollowingSession(make_settings(environ={}), state, ranks, clock)
    session.open()
    assert session.remaining_s() == 60.0
    clock.advance(10.0)
    assert session.remaining_s() == 50.0
    session.talk()  # the run was paused, or extended
    assert session.remaining_s() == 110.0
    clock.advance(20.0)
    assert session.remaining_s() == 90.0
    session.talk()
    assert session.remaining_s() == 100.0
    session.close(Outcome.COMPLETED)
