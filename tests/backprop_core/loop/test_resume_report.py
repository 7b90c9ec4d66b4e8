"""What is said of a resume follows from what was done in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backprop_core.loop.resume_report import Given, pass_sentence, resume_sentence
from backprop_core.ports.unmodified_loop import ResumePoint

GIVEN = Given(["model", "optimizer", "scheduler"], late=False, place=ResumePoint.PASS, batches=12)


IN_PASS = "the interrupted pass over the data continues after its first 12 batches"
BATCHES = "'for epoch in box.epochs(N):' and 'for batch in box.batches(loader):'"
ALL = f"The state of model, optimizer and scheduler was restored; {IN_PASS}; the script's own counters start over. "


@pytest.mark.parametrize(
    ("given", "says", "says_not"),
    [
        (GIVEN, ALL, "no effect"),
        (
            GIVEN,
            f"inside of 'with backprop.timebox() as box:' and in place of the loop: {BATCHES}",
            "box.steps",
        ),
        (replace(GIVEN, objects=["model"]), "The state of model was restored; ", "model, "),
        (replace(GIVEN, objects=[]), "None of this loop's objects were restored", "The state of"),
        (replace(GIVEN, late=True), "was restored after the first step, which had no effect", "None of"),
        (replace(GIVEN, place=ResumePoint.NEXT_PASS), "the data continues with the next pass", "interrupted"),
        (replace(GIVEN, place=ResumePoint.AWAITED), "has not started again so far", "goes on"),
        (replace(GIVEN, place=ResumePoint.UNKNOWN), "its data starts over", "pass over the data"),
        (
            replace(GIVEN, place=ResumePoint.STEP),
            "in place of the loop: 'for step in box.steps(N):'",
            "box.batches",
        ),
        (
            replace(GIVEN, in_block=True),
            f"Two lines make it exact, in place of the loop: {BATCHES}. Or start the script with 'backprop run'",
            "with backprop",
        ),
        (replace(GIVEN, counters=True), "after its first 12 batches.", "counters"),
    ],
)
def test_each_fact_has_its_words_and_no_other(given: Given, says: str, says_not: str) -> None:
    """Nothing is claimed that was not done, and no advice is given for what came back."""
    said = resume_sentence(given)
    assert says in said
    assert says_not not in said


def test_a_pass_that_goes_on_later_is_told_when_it_does() -> None:
    """While it is awaited nothing more is said; then where it goes on."""
    assert pass_sentence(replace(GIVEN, place=ResumePoint.AWAITED)) == ""
    assert pass_sentence(GIVEN) == "The interrupted pass over the data continues after its first 12 batches."
