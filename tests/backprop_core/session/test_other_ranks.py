"""A rank that is not the first knows what the first one has said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backprop_core.outcome import Outcome
from backprop_core.ports.ranks import LastWord
from backprop_core.session.other_ranks import FollowingSession
from backprop_core.session.rank_patience import LOOK_EVERY_S, LOOKS
from backprop_core.session.rank_talk import Opening, pause_key
from backprop_core.session.settings import make_settings
from backprop_core.testing.clock import FakeClock
from backprop_core.testing.counting_state import CountingState


class FirstRank:
    """Stands for the first of two processes."""

    count, rank, settled = 2, 1, None

    def __init__(self, *left_s: float) -> None:
        self._left_s = list(left_s)
        self.told: dict[str, str] = {}
        self.goes_on: Callable[[], bool] = lambda: True

    def wait_while(self, goes_on: Callable[[], bool]) -> None:
        self.goes_on = goes_on

    def posted(self, key: str) -> str | None:
        return self.told.get(key)

    def share(self, opening: Any) -> Opening:
        return Opening(left_s=60.0, run_id="shared", budget_s=60.0, name="attempt")

    def agree(self, why_not: str) -> str:
        return ""

    def hear(self, number: int, sealed: int = -1) -> int:
        return 0

    def follow(self, give: Callable[[], Any], copy: Callable[[], Any]) -> LastWord:
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


def _looks_until_it_waits_no_longer(ranks: FirstRank, clock: FakeClock) -> int:
    looks = 0
    while ranks.goes_on():
        clock.advance(LOOK_EVERY_S)
        looks += 1
        assert looks < 10_000
    return looks


def test_a_first_rank_that_does_not_come_is_waited_for_until_a_save_would_be_over() -> None:
    """Behind the deadline it may still save, for the grace; then nobody waits for ever. What is held from outside waits."""
    clock = FakeClock()
    ranks: Any = FirstRank()
    state: Any = CountingState()
    FollowingSession(make_settings(environ={}, grace=40), state, ranks, clock).open()
    assert _looks_until_it_waits_no_longer(ranks, clock) * LOOK_EVERY_S == pytest.approx(100.0 + 10.0, abs=1)
    clock.advance(3600.0)
    ranks.told[pause_key("attempt")] = "paused"
    for _ in range(1000):
        assert ranks.goes_on()
        clock.advance(LOOK_EVERY_S)
    ranks.told.clear()
    assert _looks_until_it_waits_no_longer(ranks, clock) * LOOK_EVERY_S == pytest.approx(40.0 + 10.0, abs=1)


def test_a_machine_that_was_asleep_has_waited_for_nobody() -> None:
    """A first look far behind the deadline is not the last one: looks are counted, and no seconds."""
    clock = FakeClock()
    ranks: Any = FirstRank()
    state: Any = CountingState()
    FollowingSession(make_settings(environ={}), state, ranks, clock).open()
    clock.advance(100_000.0)
    assert _looks_until_it_waits_no_longer(ranks, clock) == LOOKS - 1
