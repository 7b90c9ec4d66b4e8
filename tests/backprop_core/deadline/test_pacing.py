"""What the pacer tells about the saves to come."""

from __future__ import annotations

import pytest

from backprop_core.deadline.budget import Limit
from backprop_core.deadline.decision import BoundaryAction, decide
from backprop_core.deadline.forecast import Forecast, Phase
from backprop_core.deadline.pacing import Asks, Pacer


def pacer(asked_every_s: float | None = 60.0) -> Pacer:
    """Ten steps into a box of ten minutes, with saves of half a second."""
    made = Pacer(Forecast(), began=100.0, budget_s=600.0, asked_every_s=asked_every_s)
    for step in range(10):
        made.passed(101.0 + step, 1)
        made.goes_on(101.0 + step, Phase.PLAIN)
    return made


@pytest.mark.parametrize("asked_every_s", [None, 60.0, 5.0])
def test_the_next_save_is_due_when_it_was_said_to_be(asked_every_s: float | None) -> None:
    """Before the instant no save is due, behind it one is: for the first and for those after it."""
    made = pacer(asked_every_s)
    deadline = Limit(700.0, "test")
    for _ in range(2):
        now = made.last_save + 3.0
        wait_s = made.next_save_s(now, deadline.at - now)
        assert wait_s is not None
        assert not made.facts(now + wait_s - 0.01, deadline, Phase.PLAIN, None, Asks()).save_due
        assert made.facts(now + wait_s + 0.01, deadline, Phase.PLAIN, None, Asks()).save_due
        made.forecast.observe_save(1_000, 0.5)
        made.saved(now + wait_s)


def test_near_the_end_no_periodic_save_is_promised() -> None:
    """Where the save at the deadline comes first there is no next periodic one."""
    made = pacer()
    made.forecast.observe_save(1_000, 0.5)
    made.saved(650.0)
    assert made.next_save_s(660.0, 40.0) is None


def test_a_copy_for_the_guard_never_takes_the_place_of_a_step() -> None:
    """Copies are not reserved for: where a step fits but not a copy before it, the step is taken without one."""
    made = pacer()
    made.forecast.observe_save(1_000, 0.5)
    deadline = Limit(700.0, "test")
    before = made.facts(698.0, deadline, Phase.PLAIN, None, Asks())
    made.saved(690.0)
    made.copied(690.0, 0.25)
    last = deadline.at - before.reserve_s
    for now, affordable in ((last - 0.3, True), (last - 0.2, False)):
        facts = made.facts(now, deadline, Phase.PLAIN, None, Asks())
        assert facts.reserve_s == pytest.approx(before.reserve_s)
        assert decide(facts).action is BoundaryAction.CONTINUE
        assert (made.copy_now(now, facts) is not None) is affordable


def test_a_block_without_a_governor_keeps_more_for_a_save_seen_once() -> None:
    """A governed process has a reserve for its exit; a block has none, so it is left earlier while one save says little."""
    free, governed = pacer(), pacer()
    governed.governed = True
    before = free.exit_s(), governed.exit_s()
    for made in (free, governed):
        made.forecast.observe_save(1_000, 0.5)
    assert free.exit_s() > before[0] + 0.15
    assert governed.exit_s() == before[1]


@pytest.mark.parametrize("save_s", [5.0, 30.0, 60.0, 120.0])
def test_a_large_state_is_saved_every_ten_minutes_at_least(save_s: float) -> None:
    """What counts is what training loses, the copy: not the minutes for which the writer thread is busy."""
    made = Pacer(Forecast(), began=0.0, budget_s=24 * 3600.0, steps=10)
    made.forecast.observe_save(1_000, save_s)
    made.saved(100.0, lost_s=save_s / 40)
    wait_s = made.next_save_s(100.0, 80_000.0)
    assert wait_s is not None
    assert save_s < wait_s <= 600.0
    assert save_s / 40 <= 0.02 * wait_s


def test_a_disk_that_takes_longer_than_the_interval_is_given_its_time() -> None:
    """A save that takes a quarter of an hour is begun again when it is done, not while it is being written."""
    made = Pacer(Forecast(), began=0.0, budget_s=24 * 3600.0, steps=10)
    made.forecast.observe_save(1_000, 900.0)
    made.saved(100.0, lost_s=1.0)
    wait_s = made.next_save_s(100.0, 80_000.0)
    assert wait_s is not None
    assert 900.0 <= wait_s <= 1_100.0


def test_a_save_that_cannot_end_in_this_box_is_not_begun_again_and_again() -> None:
    """Once a save has taken longer than the box, no periodic one is due in what is left of it."""
    made = Pacer(Forecast(), began=0.0, budget_s=300.0, steps=10)
    made.forecast.observe_save(1_000, 400.0)
    made.saved(10.0, lost_s=0.5)
    assert made.save_is_hopeless()
    deadline = Limit(300.0, "test")
    for now in (24.0, 100.0, 200.0):
        assert not made.facts(now, deadline, Phase.PLAIN, None, Asks()).save_due
        assert made.next_save_s(now, deadline.at - now) is None


def test_a_save_that_has_to_be_repeated_is_due_at_the_next_boundary() -> None:
    """Long before its interval is over, and once."""
    made = pacer()
    made.forecast.observe_save(1_000, 0.5)
    made.saved(120.0)
    deadline = Limit(700.0, "test")
    assert not made.facts(121.0, deadline, Phase.PLAIN, None, Asks()).save_due
    made.repeat()
    assert made.facts(121.0, deadline, Phase.PLAIN, None, Asks()).save_due
    made.saved(121.0)
    assert not made.facts(122.0, deadline, Phase.PLAIN, None, Asks()).save_due


def test_what_is_read_behind_training_makes_saves_rarer() -> None:
    """Memory that is not copied is still read: saves come no oftener than if it had been copied."""
    read, copied, small = pacer(None), pacer(None), pacer(None)
    for made, lost_s in ((read, 0.01), (copied, 0.51), (small, 0.01)):
        made.forecast.observe_save(1_000, 0.01)
        made.saved(120.0, lost_s=lost_s)
    read.read_behind_s = 0.5
    next_s = [made.next_save_s(120.0, 580.0) for made in (read, copied, small)]
    assert next_s[0] is not None
    assert next_s[2] is not None
    assert next_s[1] is None or next_s[0] >= next_s[1]
    assert next_s[0] > 2 * next_s[2]


def test_the_first_copies_spend_what_start_up_has_left() -> None:
    """A first copy of 30 ms does not put the second off by 3 s: of ten seconds since the start 1% is 100 ms."""
    made = pacer()
    made.survives, made.start_up_s = True, 5.0
    deadline = Limit(700.0, "test")

    def is_due(now: float) -> bool:
        return made.copy_now(now, made.facts(now, deadline, Phase.PLAIN, None, Asks())) is not None

    assert is_due(105.0)
    made.copied(105.0, 0.03)
    assert is_due(105.1)
    made.copied(105.1, 0.03)
    made.copied(105.2, 0.03)
    assert not is_due(105.3)  # 90 ms of 103 are spent, and another takes 30
    assert is_due(107.5)
    for copy in range(2):
        made.copied(107.5 + copy, 0.03)
    assert not is_due(109.0)  # five have shown what one costs: a hundred times that lies between them
    assert is_due(111.6)


@pytest.mark.parametrize("copies", [1, 5])
def test_the_one_copy_that_is_left_is_not_renewed_at_once(copies: int) -> None:
    """Where memory has run short the next copy waits for its share of the time, however much start-up would pay for."""
    made = pacer()
    made.survives, made.start_up_s = True, 100.0
    deadline = Limit(700.0, "test")
    for copy in range(copies):
        made.copied(105.0 + copy, 0.03)
    made.copy_later(112.0)
    for now, due in ((112.1, False), (114.9, False), (115.1, True)):
        assert (made.copy_now(now, made.facts(now, deadline, Phase.PLAIN, None, Asks())) is not None) is due
