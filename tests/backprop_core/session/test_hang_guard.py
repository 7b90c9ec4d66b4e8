"""What the guard does for a step that does not end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backprop_core.deadline.pacing import GOVERNED_END_S
from backprop_core.outcome import SaveReason
from backprop_core.testing.clock import FakeClock
from tests.backprop_core.session.test_session import Box


def test_a_checkpoint_that_was_committed_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The writer's last commit, of which no boundary has heard, is in the last line and in the event of the end."""

    def exits(status: int) -> None:
        raise SystemExit(status)

    box = Box(tmp_path, FakeClock(), checkpoint_every="1h").open()
    box.train(1)
    before = box.session.checkpoint
    box.train(2)
    assert box.session.hands.save_behind(SaveReason.PERIODIC)
    box.session.saver.wait()
    assert box.session.checkpoint == before, "nobody has heard of it"
    monkeypatch.setattr(os, "_exit", exits)
    with pytest.raises(SystemExit):
        box.session.guard._end_process()
    assert "A step did not finish in time, so the process exits now; the last checkpoint is of step 3" in (
        capsys.readouterr().err
    )
    assert box.events("session_finished")[-1]["step"] == 3


def test_a_last_save_that_does_not_end_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where training has stopped and the disk is slow, no step is to blame."""
    monkeypatch.setattr(os, "_exit", lambda status: (_ for _ in ()).throw(SystemExit(status)))
    box = Box(tmp_path, FakeClock(), checkpoint_every="1h").open()
    box.train(1)
    box.session.guard.stand_down()
    with pytest.raises(SystemExit):
        box.session.guard._end_process()
    assert "The last save did not finish in time, so the process exits now" in capsys.readouterr().err
    assert box.events("session_finished")[-1]["reason"].startswith("the last save did not finish in time")


def test_a_deadline_that_is_put_off_at_the_same_moment_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Awake after Ctrl-Z, the guard asks what is not applied while the main thread applies it: the new deadline counts."""
    clock = FakeClock()
    box = Box(tmp_path, clock, checkpoint_every="1h").open()
    box.train(1)
    session = box.session
    monkeypatch.setattr(type(session.enrolment), "governed", True)
    session.guard.stop()  # its thread; what it would do is asked for here
    before = session.deadlines.earliest.at
    clock.advance(before - clock.monotonic() + 1.0)

    def applied_meanwhile(now: float) -> float:
        session.deadlines.shift(60.0)
        return 0.0

    monkeypatch.setattr(session.requests, "unapplied_s", applied_meanwhile)
    last_at, _ = session.guard._due(clock.monotonic())
    assert last_at > clock.monotonic()
    assert last_at == pytest.approx(before + 60.0 - GOVERNED_END_S)
