"""A run's story read from its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backprop_core.history.run_history import forecast_of, repeated_steps, run_history, time_spent
from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import EVENTS_FILE, GOVERNOR_FILE, attempt_dir
from backprop_core.runs.events import EventLog
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.record import AttemptRecord, RunRecord
from backprop_core.testing.clock import FakeClock
from tests.hostile_json import twisted

NOBODY = ProcessIdentity("", 1, -1.0)


def _record(*attempts: AttemptRecord) -> RunRecord:
    return RunRecord("r", None, Outcome.TIMEBOXED, 0.0, ("train.py",), "/", "python", attempts=attempts)


def _write_first_box(folder: Path, clock: FakeClock) -> AttemptRecord:
    """A box of 100 s: 10 s of starting, a pause of 20 s, a save of 5 s at the end, 3 s to leave; killed behind step 60."""
    folder.mkdir(parents=True)
    events, governor = EventLog(folder / EVENTS_FILE, clock), EventLog(folder / GOVERNOR_FILE, clock)
    began = clock.wall()
    clock.advance(10)
    events.append("session_started", budget_s=100.0)
    events.append("fit", steps_that_fit=70, total_steps=200, boxes=3)
    for step in range(1, 61):
        clock.advance(1)
        events.append("progress", step=step, loss=1 / step, values={"lr": 0.1, "note": "words"}, rate=1.0)
        governor.append(
            "sample",
            rss_bytes=step,
            load_1m=0.5,
            gpus=[
                {"uuid": "GPU-a", "own": True, "power_w": 100.0},
                {"uuid": "GPU-b", "own": False, "power_w": 7.0},
            ],
        )
        if step == 30:
            governor.append("paused", why="the GPU is too hot")
            events.append("paused")
            clock.advance(20)
            events.append("continued", paused_s=20.0)
            governor.append("continued", why="the GPU is too hot")
            events.append(
                "checkpoint_saved", path="/c/30", step=30, reason="periodic", nbytes=9, seconds=50.0
            )
    clock.advance(2)
    events.append("checkpoint_saved", path="/c/60", step=60, reason="deadline", nbytes=9, seconds=5.0)
    events.append("session_finished", outcome="timeboxed")
    clock.advance(8)
    measured = {"governor": {"used_s": 100.0, "waited_s": 4.0}, "steps_that_came": 58}
    return AttemptRecord(1, began, NOBODY, clock.wall(), Outcome.TIMEBOXED, "over", measured=measured)


def test_the_time_of_a_box_adds_up(tmp_path: Path) -> None:
    """Starting, training, saving, pausing and leaving are told apart and are the whole; a save beside it is none."""
    clock = FakeClock()
    attempt = _write_first_box(attempt_dir(tmp_path, 1), clock)
    history = run_history(tmp_path, _record(attempt), clock.wall())
    spent = time_spent(history.attempts[0])
    assert (spent.waiting_s, spent.starting_s, spent.paused_s, spent.saving_s) == (4.0, 10.0, 20.0, 5.0)
    assert spent.leaving_s == 8.0
    parts = (spent.starting_s, spent.training_s, spent.saving_s, spent.paused_s, spent.leaving_s)
    assert sum(part or 0.0 for part in parts) == pytest.approx(100.0)
    assert [(pause.at_s, pause.seconds, pause.why) for pause in history.attempts[0].pauses] == [
        (40.0, 20.0, "the GPU is too hot")
    ]
    forecast = forecast_of(history.attempts[0])
    assert forecast is not None
    assert (forecast.fit_steps, forecast.came_steps, forecast.boxes) == (70, 58, 3)


def test_curves_run_on_over_the_boxes_without_overlap(tmp_path: Path) -> None:
    """The second box begins where the first one's time ended; by step the first is cut where the second went on."""
    clock = FakeClock()
    first = _write_first_box(attempt_dir(tmp_path, 1), clock)
    clock.advance(1000)
    folder = attempt_dir(tmp_path, 2)
    folder.mkdir()
    events = EventLog(folder / EVENTS_FILE, clock)
    began = clock.wall()
    clock.advance(5)
    events.append("checkpoint_restored", path="/c/30", step=30)
    events.append("session_started")
    clock.advance(1)
    events.append("progress", step=31, loss=float("nan"), values={})
    second = AttemptRecord(2, began, NOBODY, None, Outcome.RUNNING)
    history = run_history(tmp_path, _record(first, second), clock.wall())
    assert history.logged_names() == ["loss", "lr"]
    assert history.machine_names() == ["steps per second", "memory", "load", "GPU power GPU-a"]
    assert [len(points) for points in history.by_time("loss")] == [60, 1]
    assert [len(points) for points in history.by_step("loss")] == [30, 1]
    assert history.by_step("loss")[1][0].at_s == 106.0
    assert repeated_steps(history.attempts) == [0, 30]
    assert [made.path for made in history.checkpoints()] == ["/c/30", "/c/60"]
    assert time_spent(history.attempts[1]).leaving_s is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from(
            [
                {
                    "kind": "progress",
                    "step": 1,
                    "loss": 0.5,
                    "values": {"a": 1},
                    "wall": 1.7e9,
                    "monotonic": 5.0,
                },
                {
                    "kind": "sample",
                    "rss_bytes": 5,
                    "gpus": [{"uuid": "GPU", "power_w": 1.0}],
                    "monotonic": 6.0,
                },
                {"kind": "checkpoint_saved", "path": "/c", "seconds": 1.0, "reason": "deadline", "nbytes": 4},
                {"kind": "paused", "why": "hot", "monotonic": 7.0},
                {"kind": "continued", "monotonic": 8.0},
                {"kind": "fit", "steps_that_fit": 1, "boxes": 2},
                {"kind": "session_finished", "monotonic": 9.0},
            ]
        ).flatmap(twisted),
        max_size=12,
    )
)
@example([{"kind": "session_started", "monotonic": 0.0}, {"kind": "paused", "why": "hot", "monotonic": 70.0}])
@example([{"kind": "checkpoint_saved", "path": "/c", "seconds": -1.0, "reason": "deadline", "nbytes": 4}])
def test_whatever_events_say_they_are_read(
    tmp_path_factory: pytest.TempPathFactory, told: list[object]
) -> None:
    """Events of any shape in either file raise nothing, and no part of the time is negative."""
    run_dir = tmp_path_factory.mktemp("run")
    folder = attempt_dir(run_dir, 1)
    folder.mkdir(parents=True)
    for name in (EVENTS_FILE, GOVERNOR_FILE):
        (folder / name).write_text("\n".join(map(json.dumps, told)))
    attempt = AttemptRecord(1, 1.7e9, NOBODY, 1.7e9 + 50, Outcome.TIMEBOXED)
    history = run_history(run_dir, _record(attempt), 1.7e9)
    spent = time_spent(history.attempts[0])
    assert min(spent.waiting_s, spent.training_s, spent.saving_s, spent.paused_s) >= 0
    for name in history.logged_names():
        history.by_step(name)
    forecast_of(history.attempts[0])
    repeated_steps(history.attempts)
