"""What is known in one process of the sessions that others had in the same attempt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backprop_core.runs.attempt import EVENTS_FILE, Attempt, attempt_dir
from backprop_core.runs.events import EventLog
from backprop_core.session.other_processes import SEVERAL_FILE, Others, note_taken, others_in, trained_at_once
from backprop_core.testing.clock import FakeClock

OTHER = os.getpid() + 1


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    """The second attempt of a run; the first has a folder, too."""
    for number in (1, 2):
        attempt_dir(tmp_path, number).mkdir(parents=True)
    return Attempt.join(tmp_path, 2, FakeClock())


def _session(attempt: Attempt, pid: int, box: int, outcome: str = "") -> None:
    log = EventLog(attempt.directory / EVENTS_FILE, FakeClock())
    log.append("session_started", pid=pid, box=box)
    log.append("progress", step=1)
    if outcome:
        log.append("session_finished", outcome=outcome)
    log.close()


def test_boxes_of_others_that_are_over_are_counted(attempt: Attempt) -> None:
    """One that failed or died is begun again in the same box, and one's own are counted by oneself."""
    assert others_in(attempt) == Others(0, None)
    _session(attempt, OTHER, 1, "failed")
    assert others_in(attempt) == Others(0, OTHER)
    _session(attempt, OTHER + 1, 1, "completed")
    _session(attempt, OTHER + 2, 2, "timeboxed")
    assert others_in(attempt).boxes == 2
    _session(attempt, os.getpid(), 3, "completed")
    assert others_in(attempt) == Others(2, os.getpid())
    _session(attempt, OTHER + 3, 4)
    assert others_in(attempt) == Others(2, OTHER + 3)


def test_a_second_training_at_the_same_time_is_said_and_noted(
    attempt: Attempt, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where another process has the session, not where this one has it, and not by the other ranks of a training."""
    _session(attempt, os.getpid(), 1)
    note_taken(attempt, {})
    _session(attempt, OTHER, 1)
    note_taken(attempt, {"RANK": "1"})
    assert capfd.readouterr().err == ""
    assert not (attempt.directory / SEVERAL_FILE).exists()
    note_taken(attempt, {})
    assert f"is in process {OTHER}: what this one trains is not saved" in capfd.readouterr().err
    assert not trained_at_once(attempt)
    later = attempt_dir(attempt.directory.parents[1], 3)
    later.mkdir()
    assert trained_at_once(Attempt.join(attempt.directory.parents[1], 3, FakeClock()))
