"""The three records of an attempt: what old files say is understood, what is written they would have said."""

from __future__ import annotations

from typing import Any

from backprop_core.runs.measured import GovernorFacts, Measured, PauseFacts, SessionFacts, read_measured

OLD: dict[str, Any] = {
    "longest_s": {"plain": 0.1},
    "saves": [[100, 0.5]],
    "steps_forecast": 40,
    "steps_that_came": 38,
    "peak_rss_bytes": 300,
    "framework": "pytorch",
    "attached": True,
    "exit_s": 0.2,
    "slack_s": 0.4,
    "used_s": 9.0,
    "governor": {
        "used_s": 10.0, "unused_s": 0.1, "killed": False, "cause": "deadline", "leftovers": 1, "first_step": None,
        "output_lost_bytes": 0, "pauses": [{"why": "hot", "seconds": 2.0}],
    },
}  # fmt: skip
"""As version 0.1 wrote it."""
REWRITTEN: dict[str, Any] = OLD | {"governor": {"waited_s": None, **OLD["governor"]}}


def test_a_record_of_the_first_version_is_three_records() -> None:
    """Each part of the one object goes to the record that it belongs to, and is written in the same place again."""
    measured = read_measured(OLD)
    assert set(measured.priors) == {"longest_s", "saves", "steps_forecast", "steps_that_came", "exit_s"}
    assert measured.session == SessionFacts("pytorch", True, 0.4, 9.0)
    assert measured.governor == GovernorFacts(
        used_s=10.0,
        unused_s=0.1,
        cause="deadline",
        leftovers=1,
        pauses=(PauseFacts("hot", 2.0),),
        peak_rss_bytes=300,
    )
    assert measured.written() == REWRITTEN


def test_the_reserve_is_kept_in_the_record() -> None:
    """What newer versions note beside the first one's facts is read, and written again."""
    newer = OLD | {"reserve_s": 0.7}
    assert read_measured(newer).session.reserve_s == 0.7
    assert read_measured(newer).written() == REWRITTEN | {"reserve_s": 0.7}


def test_anything_is_read() -> None:
    """A damaged object gives what is whole, and without a governor there is none."""
    assert read_measured({}) == Measured({})
    odd = read_measured(
        {"governor": {"pauses": [3, {"seconds": "x"}], "used_s": "y"}, "attached": 1, "slack_s": []}
    )
    assert odd.session == SessionFacts()
    assert odd.governor == GovernorFacts(pauses=(PauseFacts("", None), PauseFacts("", None)))
    assert read_measured({"governor": [], "peak_rss_bytes": True}).governor is None
