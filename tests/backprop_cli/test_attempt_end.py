"""The last line of an attempt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backprop_cli.attempt_end import farewell, last_known
from backprop_core.governor.observed import EndCause, Ending
from backprop_core.governor.survivor_commit import Survival
from backprop_core.governor.verdict import judge
from backprop_core.outcome import Outcome
from backprop_core.runs.record import RunRecord
from tests.backprop_core.governor.test_verdict import ending

RESUME = "Resume: backprop resume x"
STOPPED = {
    "outcome": "timeboxed",
    "reason": "the budget of 10.0 s is used up",
    "step": 139,
    "checkpoint_step": 139,
}


def last_line(ended: Ending, *, resumable: bool = True) -> str:
    record = RunRecord("x", None, Outcome.RUNNING, 0.0, ("train.py",), "/", "python")
    said = farewell(record, judge(ended, resumable=resumable), ended, resumable)
    return f"{said.text} {said.how_to_go_on()}".rstrip()


@pytest.mark.parametrize(
    ("changed", "unused_s", "line"),
    [
        (
            {},
            0.4,
            "Stopped at step 139, 0.4 s before the deadline. Checkpoint saved. Resume: backprop resume x",
        ),
        (
            {},
            -0.2,
            "Stopped at step 139, 0.2 s after the deadline. Checkpoint saved. Resume: backprop resume x",
        ),
        (
            {"checkpoint_step": 120},
            0.4,
            "Stopped at step 139, 0.4 s before the deadline. The newest checkpoint is from step 120. {}",
        ),
        (
            {"step": "?"},
            0.4,
            "Stopped, 0.4 s before the deadline. Checkpoint saved. Resume: backprop resume x",
        ),
    ],
)
def test_a_training_that_was_stopped_in_time(changed: dict[str, Any], unused_s: float, line: str) -> None:
    """One line has the step, the time left, whether that step is saved, and the command that goes on."""
    assert last_line(
        ending(cause=EndCause.DEADLINE, finished={**STOPPED, **changed}, unused_s=unused_s)
    ) == line.format(RESUME)


def test_other_ends_say_why() -> None:
    """Whoever was killed, stopped by somebody or left without a checkpoint is not said to have stopped with one."""
    killed = last_line(ending(returncode=-9, cause=EndCause.DEADLINE, killed=True))
    assert killed.startswith("timeboxed after 10.0 s. ")
    assert killed.endswith("was killed. Resume: backprop resume x")
    asked = last_line(ending(cause=EndCause.USER, finished={**STOPPED, "outcome": "stopped"}))
    assert asked.startswith("stopped at step 139 after 10.0 s. ")
    empty = last_line(ending(cause=EndCause.DEADLINE, finished=STOPPED), resumable=False)
    assert empty.endswith("There is no checkpoint: 'backprop resume x' would start from scratch.")


def test_a_script_that_was_killed_after_its_last_save_has_stopped_with_a_checkpoint() -> None:
    """How long its exit took is not the reason, and neither is what was reckoned at the last step."""
    ended = ending(returncode=-9, cause=EndCause.DEADLINE, finished=STOPPED, killed=True, unused_s=0.1)
    assert last_line(ended) == (
        "Stopped at step 139, 0.1 s before the deadline. Checkpoint saved. The script did not exit in time and was killed. "
        + RESUME
    )


def test_what_survived_a_step_that_hung_is_what_was_saved() -> None:
    """The session of such a step knows its last checkpoint alone; the line told that one's step, and `Checkpoint saved.`"""
    hung = {**STOPPED, "step": 3, "checkpoint_step": 3, "reason": "a step did not finish in time"}
    left = replace(
        ending(returncode=-9, cause=EndCause.DEADLINE, finished=hung, killed=True, unused_s=0.1),
        survival=Survival(path="/c/28", step=28, died_at=28),
    )
    assert last_line(left).startswith(
        "Stopped at step 28, 0.1 s before the deadline. Step 28, the last complete one, was saved. The script did not exit "
    )
    assert last_known(left, "/c/28").step == 28
    preempted = replace(left, cause=EndCause.TERMINATED, session=replace(left.session, finished=None))
    assert "Checkpoint saved" not in last_line(preempted)


def test_a_completed_training_says_so_once() -> None:
    """Nothing behind `completed` says the same in other words; what else is known stays."""
    assert last_line(ending(finished={"outcome": "completed"})) == "completed after 10.0 s."
    left = last_line(ending(finished={"outcome": "completed", "reason": "all 3 epochs are trained"}))
    assert left == "completed after 10.0 s. All 3 epochs are trained."


def test_a_reason_of_the_session_is_a_sentence() -> None:
    """A session tells why in half a sentence; the last line has a capital, a full stop, and our name as it is."""
    stopped = ending(finished=STOPPED | {"outcome": "stopped", "reason": "stopped by Ctrl-C"})
    assert " Stopped by Ctrl-C. Checkpoint saved. Resume:" in last_line(stopped)


@pytest.mark.parametrize(
    ("saved", "kept"),
    [(139, "Checkpoint saved. "), (120, "The newest checkpoint is from step 120. "), (None, "")],
)
def test_a_preempted_training_says_its_step(saved: int | None, kept: str) -> None:
    """The last line has the step and what of it is kept, not only how long the attempt took."""
    finished = STOPPED | {
        "outcome": "preempted",
        "reason": "SIGTERM was received",
        "checkpoint_step": saved,
    }
    line = last_line(ending(cause=EndCause.TERMINATED, finished=finished))
    assert line.startswith("preempted at step 139 after 10.0 s. ")
    assert line.endswith(f". {kept}{RESUME}")


def test_a_chain_is_resumed_as_one() -> None:
    """What continues a chain of boxes is a chain again, with a checkpoint or without."""
    record = RunRecord("x", None, Outcome.RUNNING, 0.0, ("train.py",), "/", "python")
    ended = ending(cause=EndCause.DEADLINE, finished=STOPPED)
    for resumable in (True, False):
        said = farewell(record, judge(ended, resumable=resumable), ended, resumable)
        assert "backprop resume x --until-done" in said.how_to_go_on(until_done=True)
