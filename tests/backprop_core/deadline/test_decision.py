"""BoundaryFacts in, a verdict out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop_core.deadline.decision import BoundaryAction, BoundaryFacts, Leave, decide
from backprop_core.outcome import Outcome, SaveReason

PLENTY = BoundaryFacts(remaining_s=100.0, gap_s=1.0, save_s=2.0, exit_s=0.3)
SOON = Leave(Outcome.PREEMPTED, "SIGTERM was received", at_once=False)
NOW = Leave(Outcome.STOPPED, "a stop was requested", at_once=True)


@given(
    remaining=st.floats(-10, 100),
    gap=st.floats(0, 10),
    save=st.floats(0, 10),
    exit_s=st.floats(0, 1),
    due=st.booleans(),
    flying=st.booleans(),
)
def test_it_stops_exactly_when_no_further_gap_fits(
    remaining: float, gap: float, save: float, exit_s: float, due: bool, flying: bool
) -> None:
    """With a known cost of saving, the box ends if and only if what remains is less than a gap, the save and the exit."""
    facts = BoundaryFacts(remaining, gap, save, exit_s, save_due=due, save_in_flight=flying)
    stops = decide(facts).action is BoundaryAction.STOP
    assert stops == (remaining < gap + save + exit_s)


def test_the_reason_names_the_numbers_and_the_source() -> None:
    """Who set the deadline, what is left and what would be needed stand in the verdict."""
    verdict = decide(replace(PLENTY, remaining_s=3.0, deadline="until tomorrow"))
    assert verdict.outcome is Outcome.TIMEBOXED
    assert verdict.reason is SaveReason.DEADLINE
    assert "until tomorrow: 3.0 s left" in verdict.text
    assert "3.3 s" in verdict.text


def test_a_guess_does_not_end_a_box() -> None:
    """Where the cost of a save is only a prior, it is measured first: by the save in flight, or by one made now."""
    guess = replace(PLENTY, save_s=500.0, save_known=False)
    assert decide(guess).action is BoundaryAction.SAVE_AND_WAIT
    assert decide(replace(guess, save_in_flight=True)).action is BoundaryAction.WAIT
    assert decide(replace(guess, remaining_s=1.0)).action is BoundaryAction.STOP


def test_a_guess_that_could_not_be_measured_is_not_tried_at_every_boundary() -> None:
    """While a failed attempt to learn what a save costs is fresh, training goes on, to the end of the box if need be."""
    failed = replace(PLENTY, save_s=500.0, save_known=False, save_failed_lately=True)
    assert decide(failed).action is BoundaryAction.CONTINUE
    assert decide(replace(failed, remaining_s=1.0)).action is BoundaryAction.STOP


def test_a_person_is_obeyed_at_once() -> None:
    """A stop that was asked for ends at this boundary, however much time there is."""
    verdict = decide(replace(PLENTY, leave=NOW))
    assert (verdict.action, verdict.outcome) == (BoundaryAction.STOP, Outcome.STOPPED)


def test_a_preempted_run_uses_its_grace() -> None:
    """After SIGTERM training goes on until a further step and the save would not fit, and is then called preempted."""
    assert decide(replace(PLENTY, leave=SOON)).action is BoundaryAction.CONTINUE
    verdict = decide(replace(PLENTY, leave=SOON, remaining_s=3.2))
    assert (verdict.action, verdict.outcome, verdict.reason) == (
        BoundaryAction.STOP,
        Outcome.PREEMPTED,
        SaveReason.PREEMPTED,
    )


def test_a_signal_is_followed_by_a_commit_at_once_and_training_goes_on() -> None:
    """The first boundary after SIGTERM is saved here and now; a window that ends soon is waited for; not twice in a row."""
    first = replace(PLENTY, leave=SOON, commit_first=True)
    verdict = decide(first)
    assert (verdict.action, verdict.reason) == (BoundaryAction.SAVE_AND_WAIT, SaveReason.PREEMPTED)
    assert decide(replace(first, window_s=0.5)).action is BoundaryAction.CONTINUE
    assert decide(replace(first, window_s=5.0)).action is BoundaryAction.SAVE_AND_WAIT
    assert decide(replace(first, save_failed_lately=True)).action is BoundaryAction.CONTINUE
    assert decide(replace(first, remaining_s=3.2)).action is BoundaryAction.STOP


def test_a_grace_shorter_than_a_step_and_a_save_begins_at_once() -> None:
    """Where the grace cannot hold a step and the save, the save begins at this boundary."""
    assert decide(replace(PLENTY, leave=SOON, remaining_s=2.5)).action is BoundaryAction.STOP


def test_an_open_window_is_finished_if_it_fits() -> None:
    """A soft stop waits for the end of a gradient accumulation window, unless that would not fit."""
    inside = replace(PLENTY, leave=NOW, window_s=5.0)
    assert decide(inside).action is BoundaryAction.CONTINUE
    assert decide(replace(inside, remaining_s=6.0)).action is BoundaryAction.STOP
    assert decide(replace(PLENTY, save_due=True, window_s=5.0)).action is BoundaryAction.CONTINUE
    assert decide(replace(PLENTY, save_due=True)).action is BoundaryAction.SAVE


def test_what_must_be_finished_is_finished_if_it_fits() -> None:
    """A stop that was asked for waits for the end of a gap that is to be finished, unless it does not fit or is for here."""
    inside = replace(PLENTY, leave=NOW, finish=True)
    assert decide(inside).action is BoundaryAction.CONTINUE
    assert decide(replace(inside, remaining_s=3.2)).action is BoundaryAction.STOP
    assert decide(replace(inside, leave=replace(NOW, here=True))).action is BoundaryAction.STOP


@pytest.mark.parametrize("asked", [True, False])
def test_periodic_and_asked_saves_wait_for_the_one_in_flight(asked: bool) -> None:
    """A save is begun when due or asked for, and not while another is being written."""
    facts = replace(PLENTY, save_due=not asked, save_asked=asked)
    verdict = decide(facts)
    assert verdict.action is BoundaryAction.SAVE
    assert verdict.reason is (SaveReason.REQUESTED if asked else SaveReason.PERIODIC)
    assert decide(replace(facts, save_in_flight=True)).action is BoundaryAction.CONTINUE
