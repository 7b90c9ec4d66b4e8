from __future__ import annotations

import signal
from typing import Any

import pytest

from backprop_core.governor.observed import EndCause, Ending, SessionView
from backprop_core.governor.stdout_messages import Heard
from backprop_core.governor.survivor_commit import Survival
from backprop_core.governor.verdict import judge, last_error_line, survived
from backprop_core.outcome import Outcome


def ending(
    returncode: int = 0, cause: EndCause | None = None, finished: dict[str, Any] | None = None, **more: Any
) -> Ending:
    """An ending with these facts; `finished` is the session's last event."""
    session = SessionView()
    if finished is not None:
        session.started = {"kind": "session_started"}
        session.finished = finished
    facts: dict[str, Any] = {
        "detail": "",
        "killed": False,
        "heard": Heard(),
        "used_s": 10.0,
        "exit_s": None,
        "unused_s": 1.0,
        "leftovers": (),
        "pauses": (),
        "lost_bytes": 0,
        "tail": b"",
    }
    return Ending(returncode=returncode, cause=cause, session=session, **(facts | more))


@pytest.mark.parametrize(
    ("facts", "resumable", "outcome", "status"),
    [
        ({}, False, Outcome.COMPLETED, 0),
        ({"returncode": 3}, True, Outcome.FAILED, 3),
        ({"returncode": -9}, True, Outcome.FAILED, 137),
        ({"returncode": -15, "cause": EndCause.DEADLINE}, False, Outcome.TIMEBOXED, 124),
        ({"returncode": 0, "cause": EndCause.DEADLINE}, True, Outcome.TIMEBOXED, 0),
        ({"returncode": -9, "cause": EndCause.USER, "killed": True}, True, Outcome.STOPPED, 0),
        ({"returncode": 0, "cause": EndCause.REQUEST}, False, Outcome.STOPPED, 124),
        ({"returncode": -15, "cause": EndCause.TERMINATED}, False, Outcome.PREEMPTED, 124),
        ({"returncode": -1, "cause": EndCause.HANGUP}, True, Outcome.PREEMPTED, 0),
        ({"finished": {"outcome": "timeboxed"}}, True, Outcome.TIMEBOXED, 0),
        ({"finished": {"outcome": "preempted"}}, True, Outcome.PREEMPTED, 0),
        ({"finished": {"outcome": "completed"}}, True, Outcome.COMPLETED, 0),
        ({"finished": {"outcome": "completed"}, "returncode": 1}, True, Outcome.FAILED, 1),
        ({"finished": {"outcome": "completed"}, "cause": EndCause.USER}, True, Outcome.COMPLETED, 0),
        ({"finished": {"outcome": "failed"}, "returncode": 1}, True, Outcome.FAILED, 1),
        ({"finished": {"outcome": "nonsense"}}, True, Outcome.COMPLETED, 0),
    ],
)
def test_outcome_and_exit_status(
    facts: dict[str, Any], resumable: bool, outcome: Outcome, status: int
) -> None:
    """Each way to end has its outcome and its exit status, and a reason that is a sentence."""
    verdict = judge(ending(**facts), resumable=resumable)
    assert (verdict.outcome, verdict.exit_status) == (outcome, status)
    assert verdict.reason


def test_the_timeboxed_exit_code_is_for_ends_that_can_be_resumed() -> None:
    """It replaces 0 of an early end with a checkpoint, not 0 of a completed run and not 124."""
    early = ending(cause=EndCause.DEADLINE)
    assert judge(early, resumable=True, timeboxed_exit=75).exit_status == 75
    assert judge(early, resumable=False, timeboxed_exit=75).exit_status == 124
    assert judge(ending(), resumable=True, timeboxed_exit=75).exit_status == 0


def test_reasons_name_what_happened() -> None:
    """A kill from outside, a refusal to end, and a script without a handler are told apart."""
    assert "SIGKILL" in judge(ending(-signal.SIGKILL), resumable=False).reason
    assert "was killed" in judge(ending(-9, EndCause.DEADLINE, killed=True), resumable=False).reason
    assert "does not catch SIGTERM" in judge(ending(-15, EndCause.DEADLINE), resumable=False).reason
    assert judge(ending(finished={"outcome": "timeboxed", "reason": "R."}), resumable=True).reason == "R."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.",
            "The GPU ran out of memory",
        ),
        ("torch.OutOfMemoryError: HIP out of memory.", "The GPU ran out of memory"),
        (
            "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.",
            "The device ran out of memory",
        ),
        ("MemoryError", "The script ran out of memory"),
        (
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 19.1 MiB",
            "The script ran out of memory",
        ),
        ("ValueError: no", "exit status 1: ValueError: no."),
    ],
)
def test_memory_that_ran_out_is_said_in_plain_words(error: str, words: str) -> None:
    """The frameworks' own words for it become one sentence."""
    verdict = judge(
        ending(1, tail=f"Traceback (most recent call last):\n{error}\n".encode()), resumable=False
    )
    assert words in verdict.reason
    assert verdict.exit_status == 1


@pytest.mark.parametrize(
    ("tail", "line"),
    [
        (b"Traceback (most recent call last):\n  File x\nValueError: no\n", "ValueError: no"),
        (
            b"torch.cuda.OutOfMemoryError: CUDA out of memory.\n",
            "torch.cuda.OutOfMemoryError: CUDA out of memory.",
        ),
        (b"KeyboardInterrupt\n", "KeyboardInterrupt"),
        (b"  ValueError: indented\nloss: 0.1\nno Error here\n", ""),
        (b"\xff\xfe", ""),
        (b"", ""),
        (b"Traceback (most recent call last):\n  File x\nmine.Bad: custom\nloss: 3\n", "mine.Bad: custom"),
        (b"  + Exception Group Traceback (most recent call last):\n  |   File x\n  | ExceptionGroup: many (2)\n",
         "ExceptionGroup: many (2)"),
        ((b"Traceback (most recent call last):\n  File x\nRuntimeError: Caught ValueError in DataLoader worker process 0.\n"
         b"Original Traceback (most recent call last):\n  File y\nValueError: no\n"), "ValueError: no"),
        ((b"Traceback (most recent call last):\n  File x\nValueError: no\nE0101 failed (exitcode: 1)\n"
         b"Traceback (most recent call last):\n  File y\na.b.ChildFailedError: \n====\n"), "ValueError: no"),
        (b"Traceback (most recent call last):\n  File x\n    f(\n^^^^^\n~~^^\nmine.<locals>.E: no\n", "mine.<locals>.E: no"),
        (b"Traceback (most recent call last):\n  File x\n\x1b[1mKeyError\x1b[0m: 'k'\n", "KeyError: 'k'"),
    ],
)  # fmt: skip
def test_the_last_error_line_is_found(tail: bytes, line: str) -> None:
    """The exception's own line is taken, whatever stands around it."""
    assert last_error_line(tail) == line


@pytest.mark.parametrize(
    ("status", "tail", "words"),
    [
        (
            2,
            b"usage: t.py\nt.py: error: no --lr\n",
            "exit status 2; last line of its output: t.py: error: no --lr.",
        ),
        (1, b"a message\n\n", "exit status 1; last line of its output: a message."),
        (3, b"Traceback (most recent call last):\n  x\nValueError: logged\nbye\x1b[0m\n", "output: bye."),
        (3, b"why\n-----\n^^^^^\n", "output: why."),
        (4, b"", "The script failed with exit status 4."),
        (1, b"backprop: It does not fit.\n", "exit status 1: It does not fit."),
        (
            1,
            b"backprop: It does not fit. " + b"So do this. " * 30,
            "status 1: It does not fit. " + "So do this. " * 21 + "So do this.",
        ),
    ],
)
def test_the_scripts_own_exit_is_told_with_its_last_word(status: int, tail: bytes, words: str) -> None:
    """Where no exception ended it, what it printed last is the best reason there is."""
    assert judge(ending(status, tail=tail), resumable=False).reason.endswith(words)


@pytest.mark.parametrize(
    ("cause", "cut"), [(EndCause.DEADLINE, Outcome.TIMEBOXED), (EndCause.REQUEST, Outcome.STOPPED)]
)
@pytest.mark.parametrize(
    ("framework", "pid", "ran_to_its_end"),
    [
        ("pytorch", 7, True),
        ("pytorch loop", 7, True),
        ("loop", 7, True),
        ("lightning", 7, False),
        ("pytorch loop", 8, False),
    ],
)
def test_a_script_that_was_ended_while_it_exited_has_completed(
    cause: EndCause, cut: Outcome, framework: str, pid: int, ran_to_its_end: bool
) -> None:
    """A plain loop's session ends when its script has come to its end; a `fit`'s, or that of another process than the
    one that was started, says nothing of the code behind it.
    """
    seen = ending(-15, cause, finished={"outcome": "completed"}, pid=7)
    seen.session.started = {"attached": True, "framework": framework, "pid": pid}
    assert judge(seen, resumable=True).outcome is (Outcome.COMPLETED if ran_to_its_end else cut)


@pytest.mark.parametrize(
    ("survival", "said"),
    [
        (Survival(died_at=8), ""),
        (Survival("p", 8, died_at=8, exact=True), " Step 8, the last complete one, was saved."),
        (Survival("p", 7, died_at=9, exact=False), " It had reached about step 9; step 7 was saved."),
        (Survival("p", 8, died_at=8, compared_at=8), " Step 8, the last complete one, was saved."),
        (
            Survival("p", 8, died_at=8, compared_at=3),
            " Step 8, the last complete one, was saved. Arrays that looked unchanged were last compared in full at step 3.",
        ),
    ],
)
def test_what_a_sudden_death_has_left_is_said(survival: Survival, said: str) -> None:
    """The step that was saved, the one that was reached, and since when what was not copied again is not proven."""
    verdict = judge(ending(-9), resumable=True)
    assert survived(verdict, survival).reason == verdict.reason.rstrip(".") + "." + said
