from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from backprop_core.governor.plan import Move, PlanFacts, ask_at, kill_at, next_move

FACTS = PlanFacts(deadline=1000.0, budget_s=600.0, grace_s=30.0, joined=False, catches_term=True)


def test_a_script_that_catches_sigterm_is_asked_its_grace_before_the_deadline() -> None:
    """With a long budget the grace decides, with a shorter one a tenth of the budget."""
    assert next_move(FACTS).move is Move.ASK
    assert next_move(FACTS).at == 970.0
    assert next_move(replace(FACTS, budget_s=100.0)).at == 990.0


def test_a_script_that_dies_of_sigterm_gets_it_at_the_last_moment() -> None:
    """It keeps all but a fraction of a second of its budget."""
    plan = next_move(replace(FACTS, catches_term=False))
    assert plan.move is Move.ASK
    assert 999.4 < plan.at < 999.9


def test_a_session_is_left_alone_until_the_backstop() -> None:
    """A script that ends itself is only ever killed, and that just before the deadline."""
    plan = next_move(replace(FACTS, joined=True))
    assert plan.move is Move.KILL
    assert 999.7 < plan.at < 1000.0


def test_who_was_asked_is_killed_when_the_grace_is_over() -> None:
    """After somebody asked, the grace counts from then, and the deadline still holds."""
    assert next_move(replace(FACTS, asked_at=500.0)).at == 530.0
    assert next_move(replace(FACTS, asked_at=999.0)).at < 1000.0
    assert next_move(replace(FACTS, asked_at=500.0)).move is Move.KILL


def test_without_a_deadline_nothing_is_due() -> None:
    """A paused run (its deadline is put off to infinity) is neither asked nor killed."""
    plan = next_move(replace(FACTS, deadline=math.inf, joined=True))
    assert plan.move is Move.WAIT
    assert not plan.due(1e12)


@given(
    budget_s=st.floats(0.01, 1e6),
    grace_s=st.floats(0, 1e5),
    joined=st.booleans(),
    catches=st.booleans(),
    asked=st.none() | st.floats(0, 1e6),
)
def test_the_kill_is_always_before_the_deadline_and_never_before_the_asking(
    budget_s: float, grace_s: float, joined: bool, catches: bool, asked: float | None
) -> None:
    """Whatever the facts: SIGKILL precedes the deadline, and SIGTERM precedes SIGKILL."""
    start = 5000.0
    facts = PlanFacts(
        start + budget_s, budget_s, grace_s, joined, catches, None if asked is None else start + asked
    )
    assert kill_at(facts) < facts.deadline
    if next_move(facts).move is Move.ASK:
        assert ask_at(facts) < kill_at(facts)
