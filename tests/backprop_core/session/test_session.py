"""One attempt from open to close, on a clock that moves when told to."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backprop_core.checkpoints import CheckpointFacts, CheckpointInfo, NumpyTranslator, Snapshot
from backprop_core.deadline.forecast import Phase
from backprop_core.errors import CheckpointWriteError, UnsavableStateError, UsageError
from backprop_core.outcome import Outcome, SaveReason
from backprop_core.runs.control import SLEPT, send_control
from backprop_core.runs.events import read_events
from backprop_core.runs.process import boot_id
from backprop_core.session import join_run
from backprop_core.session.session import Session
from backprop_core.session.settings import make_settings
from backprop_core.testing.clock import FakeClock
from backprop_core.testing.counting_state import CountingState


def _governed(home: Path, clock: FakeClock, since: float, attempt: int) -> dict[str, str]:
    """What `backprop run -m 1` puts into the environment of an attempt that it began at `since`."""
    join_run._boxes_of_run.clear()  # as in a process of its own
    folder = home / "runs/counted"
    (folder / "attempts" / str(attempt)).mkdir(parents=True)
    values = {"RUN_ID": "counted", "RUN_DIR": str(folder), "ATTEMPT": str(attempt), "BUDGET_S": "60"}
    values |= {"RESUME": str(int(attempt > 1)), "CHECKPOINT_DIR": str(folder / "checkpoints")}
    values |= {"DEADLINE_MONOTONIC": str(since + 60.0), "BOOT_ID": boot_id()}
    return {f"BACKPROP_{name}": value for name, value in values.items()}


class Box:
    """A session with a counting training state in a home of its own."""

    def __init__(
        self,
        home: Path,
        clock: FakeClock,
        total: int | None = None,
        *,
        governed_since: float | None = None,
        attempt: int = 1,
        **keywords: Any,
    ) -> None:
        self.clock = clock
        self.training_state = CountingState(total)
        environ: Mapping[str, str] = {"BACKPROP_HOME": str(home)}
        keywords = {"run": "counted", "budget": "60s", **keywords}
        if governed_since is not None:
            environ = {**environ, **_governed(home, clock, governed_since, attempt)}
            keywords = {}
        self.session = Session(make_settings(environ=environ, **keywords), self.training_state, clock=clock)

    def open(self) -> Box:
        self.session.open()
        restored = self.session.restored
        if restored is not None:
            self.training_state.step = restored.states["counter"]["step"]  # type: ignore[index]
        return self

    def train(self, steps: int, step_s: float = 0.1, **phase: Any) -> bool:
        """Take up to so many steps; True when the session wants to be left."""
        for _ in range(steps):
            self.clock.advance(step_s)
            self.training_state.step += 1
            left = self.session.boundary(1, **phase)
            self.session.saver.wait()  # a save in the background takes real time, in which fake time stands still
            if left:
                return True
        return False

    def events(self, kind: str) -> list[dict[str, Any]]:
        path = self.session.enrolment.attempt.directory / "events.jsonl"
        return [dict(event) for event in read_events(path) if event.get("kind") == kind]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def box(tmp_path: Path, clock: FakeClock) -> Iterator[Box]:
    box = Box(tmp_path, clock).open()
    yield box
    if box.session.outcome is Outcome.RUNNING:
        box.session.close(Outcome.FAILED, "the test is over")


def test_it_ends_in_time_and_the_next_attempt_goes_on(tmp_path: Path, clock: FakeClock) -> None:
    """A box of 60 s ends before its deadline with all its steps saved, and the next attempt begins behind them."""
    first = Box(tmp_path, clock).open()
    deadline = clock.monotonic() + 60.0
    assert first.train(10_000)
    assert clock.monotonic() < deadline
    assert deadline - clock.monotonic() < 1.0
    first.session.close(Outcome.TIMEBOXED)
    second = Box(tmp_path, clock).open()
    assert second.training_state.step == first.training_state.step
    assert second.session.resumed_from is not None
    second.session.close(Outcome.COMPLETED)


def test_a_state_that_takes_seconds_to_gather_is_saved_in_time(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk over a data set of many objects belongs to what a save takes: the box stops earlier by it."""
    box = Box(tmp_path, clock).open()
    gather = box.training_state.states

    def slow() -> Any:
        clock.advance(2.0)
        return gather()

    monkeypatch.setattr(box.training_state, "states", slow)
    deadline = box.session.deadlines.earliest.at
    assert box.train(10_000)
    assert 0.0 < deadline - clock.monotonic() < 3.0
    assert box.session.checkpoint is not None
    assert box.session.checkpoint.step == box.training_state.step
    box.session.close(Outcome.TIMEBOXED)


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What this process has completed is forgotten, as in the next one."""
    return lambda: monkeypatch.setattr("backprop_core.session.enrolment._completed", {})


def test_a_completed_training_is_passed_over(
    tmp_path: Path, clock: FakeClock, new_process: Callable[[], None]
) -> None:
    """Completion makes a final checkpoint; the next process begins with it, says so, and writes no second one."""
    box = Box(tmp_path, clock).open()
    box.train(5)
    box.session.close(Outcome.COMPLETED)
    newest = box.session.checkpoint
    assert newest is not None
    assert newest.facts.reason.value == "final"
    new_process()
    again = Box(tmp_path, clock).open()
    assert again.session.passes_over
    assert again.training_state.step == 5
    assert "already completed" in " ".join(event["text"] for event in again.events("message"))
    again.session.close(Outcome.COMPLETED)
    assert [info.path for info in again.session.saver.store.list()] == [newest.path]
    new_process()
    asked_for = Box(tmp_path, clock, resume=True).open()
    assert not asked_for.session.passes_over
    asked_for.train(1)
    asked_for.session.close(Outcome.COMPLETED)
    assert asked_for.session.checkpoint is not None
    assert asked_for.session.checkpoint.step == 6


def test_several_trainings_with_one_run_each_go_on(
    tmp_path: Path, clock: FakeClock, new_process: Callable[[], None]
) -> None:
    """The second training of a process has checkpoints of its own and goes on in them; the first is passed over."""
    first = Box(tmp_path, clock).open()
    first.train(5)
    first.session.close(Outcome.COMPLETED)
    second = Box(tmp_path, clock).open()
    assert second.session.restored is None
    second.train(3)
    second.session.boundary(0)
    second.session.conduct.save_now(SaveReason.PREEMPTED)
    second.session.close(Outcome.PREEMPTED)
    new_process()
    first = Box(tmp_path, clock).open()
    assert (first.training_state.step, first.session.passes_over) == (5, True)
    first.session.close(Outcome.COMPLETED)
    second = Box(tmp_path, clock).open()
    assert (second.training_state.step, second.session.passes_over) == (3, False)
    second.session.close(Outcome.STOPPED)
    once_more = Box(tmp_path, clock).open()  # in the same process: it was left early
    assert once_more.training_state.step == 3
    once_more.session.close(Outcome.COMPLETED)


def test_a_completed_run_without_a_checkpoint_is_not_trained_again(
    tmp_path: Path, clock: FakeClock, new_process: Callable[[], None]
) -> None:
    """Its results may lie elsewhere: to begin anew has to be asked for."""
    box = Box(tmp_path, clock).open()
    box.train(2)
    box.session.close(Outcome.COMPLETED)
    assert box.session.checkpoint is not None
    shutil.rmtree(box.session.checkpoint.path)
    new_process()
    with pytest.raises(UsageError, match="none of its checkpoints can be restored"):
        Box(tmp_path, clock).open()


def test_a_session_that_could_not_open_says_the_true_reason(tmp_path: Path, clock: FakeClock) -> None:
    """Whoever closes it, or looks at it, meets no AttributeError in place of the sentence for the user."""
    box = Box(tmp_path, clock, resume=str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="There is no checkpoint at"):
        box.open()
    session = box.session
    session.close(Outcome.FAILED, "UsageError: there is none")
    assert (session.outcome, session.checkpoint, session.run_id) == (Outcome.FAILED, None, "")
    assert (session.remaining_s(), session.governed, session.resumed_from) == (0.0, False, None)


def test_a_pause_moves_the_deadline(box: Box, clock: FakeClock) -> None:
    """Time between a pause and a continue request does not count against the budget."""
    before = box.session.deadlines.earliest.at
    attempt = box.session.enrolment.attempt.directory
    send_control(attempt, "pause", clock=clock)

    def continue_after_a_while(seconds: float) -> None:
        clock.advance(seconds)
        if clock.monotonic() > before - 40.0:
            send_control(attempt, "continue", clock=clock)

    clock.sleep = continue_after_a_while  # type: ignore[method-assign]
    assert not box.train(1)
    assert box.session.deadlines.earliest.at - before > 15.0
    assert box.events("continued")


def test_extend_moves_the_deadline_and_a_fixed_one_stays(tmp_path: Path, clock: FakeClock) -> None:
    """`extend` adds to a budget; `until` holds nevertheless and is named then."""
    until = datetime.fromtimestamp(clock.wall() + 100.0, tz=UTC)
    box = Box(tmp_path, clock, budget="60s", until=until).open()
    send_control(box.session.enrolment.attempt.directory, "extend", extend_s=600.0, clock=clock)
    box.train(1)
    assert box.session.deadlines.earliest.fixed
    assert 95.0 < box.session.remaining_s() <= 100.0
    box.session.close(Outcome.STOPPED)


def test_a_fixed_deadline_does_not_wait_for_a_machine_that_sleeps(tmp_path: Path, clock: FakeClock) -> None:
    """A laptop that is closed for 40 s in a box of 60 s: a budget waits, `until` does not."""
    budget = Box(tmp_path, clock, run="budget").open()
    until = datetime.fromtimestamp(clock.wall() + 60.0, tz=UTC)
    fixed = Box(tmp_path, clock, run="fixed", budget="1h", until=until).open()
    for box in (budget, fixed):
        assert not box.train(1)
    clock.suspend(40.0)
    left_s = {}
    for box in (budget, fixed):
        assert not box.train(2)
        left_s[box] = box.session.remaining_s()
    assert 59.0 < left_s[budget] < 60.0
    assert 19.0 < left_s[fixed] < 20.0
    for box in (budget, fixed):
        box.session.close(Outcome.STOPPED)


def test_a_stop_request_ends_at_the_next_boundary(box: Box, clock: FakeClock) -> None:
    """`backprop stop` is obeyed at the boundary that reads it, with a checkpoint of that boundary."""
    box.train(3)
    clock.advance(0.3)
    send_control(box.session.enrolment.attempt.directory, "stop", why="somebody asked", clock=clock)
    assert box.train(1)
    assert box.session.leaving is not None
    assert box.session.leaving.outcome is Outcome.STOPPED
    assert box.session.checkpoint is not None
    assert box.session.checkpoint.step == box.training_state.step


def test_a_signal_is_answered_with_a_commit_before_training_goes_on(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM with 30 s of grace: the next boundary is on disk and in the record, and the last save has 3 s to spare."""
    box = Box(tmp_path, clock, budget="1h").open()
    assert not box.train(5)
    box.session.requests.hear_of(signal.SIGTERM)
    heard_at = clock.monotonic()
    assert not box.train(1)
    first = box.session.checkpoint
    assert first is not None
    assert (first.step, first.facts.reason.value) == (6, "preempted")
    assert str(first.path) in (tmp_path / "runs/counted/run.json").read_text()
    assert not box.session.look()
    assert box.train(10_000)
    assert 25.0 < clock.monotonic() - heard_at <= 27.0
    saved = [event["step"] for event in box.events("checkpoint_saved")]
    assert saved == [first.step, box.training_state.step]
    box.session.close(Outcome.PREEMPTED)


def test_workers_that_ended_behind_a_signal_make_the_next_boundary_the_last(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Whoever has signalled them with the whole process group may not wait for the grace."""
    box = Box(tmp_path, clock, budget="1h").open()
    assert not box.train(5)
    box.session.requests.hear_of(signal.SIGTERM)
    assert not box.train(1)
    box.session.requests.workers_ended()
    assert box.train(1)
    box.session.close(Outcome.PREEMPTED)


def test_a_signal_that_leaves_no_time_for_a_further_step_is_saved_once(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Where nothing fits behind the first commit, that one is the last: the same state is not saved twice."""
    box = Box(tmp_path, clock, budget="1h", grace="2s").open()
    assert not box.train(5, step_s=1.7)
    box.session.requests.hear_of(signal.SIGTERM)
    assert box.train(1, step_s=0.1)
    assert (
        len([event for event in box.events("checkpoint_saved") if event["step"] == box.training_state.step])
        == 1
    )
    box.session.close(Outcome.PREEMPTED)


def test_an_epoch_end_that_does_not_fit_is_not_begun(box: Box) -> None:
    """With 20 s of validation known, the boundary before the last batch stops when only 15 s are left."""
    box.train(3)
    assert not box.train(1, phase=Phase.EPOCH_END)
    box.train(1, step_s=20.0)
    assert not box.train(1, step_s=25.0)
    assert box.train(1, then=Phase.EPOCH_END)


def test_what_cannot_be_stored_is_said_before_training(box: Box) -> None:
    """A value that needs pickle is refused when the state is weighed, with the place where it sits."""
    box.training_state.extra = {"deep": [object()]}
    with pytest.raises(UnsavableStateError, match="counter"):
        box.session.weigh()


def test_a_save_that_fails_is_told_and_training_goes_on(
    box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk costs the checkpoint and nothing else: one line, one event, the loop goes on."""

    def full(*args: object, **keywords: object) -> None:
        raise CheckpointWriteError("No space is left on the device.")

    monkeypatch.setattr(box.session.saver.store, "commit", full)
    box.session.requests.save_asked = True
    assert not box.train(3)
    assert box.events("checkpoint_failed")
    assert "No space is left" in capsys.readouterr().err


def test_a_disk_that_takes_nothing_is_told_now_and_then_and_how_old_the_last_checkpoint_is(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no save gets through, not every boundary near the deadline tries one, and the end tells the last one's age."""
    first = Box(tmp_path, clock).open()
    first.session.requests.save_asked = True
    first.train(10)
    first.session.forecast.observe_save(1, 8.0)  # what the next attempt believes a save to take
    first.session.close(Outcome.TIMEBOXED)
    clock.advance(1_000.0)
    second = Box(tmp_path, clock).open()

    def full(*args: object, **keywords: object) -> None:
        raise CheckpointWriteError("No space is left on the device.")

    monkeypatch.setattr(second.session.saver.store, "commit", full)
    capsys.readouterr()
    assert second.train(10_000)
    second.session.close(Outcome.TIMEBOXED)
    assert 3 <= len(second.events("checkpoint_failed")) <= 8
    assert second.session.steps > 590  # the time goes into training
    *said, last = capsys.readouterr().err.splitlines()
    failed = [
        line for line in said if "No space is left on the device. The newest good checkpoint is" in line
    ]
    assert "of step 1, made 16 min" in failed[0]
    assert sum("takes longer than the deadline allows" in line for line in said) <= 8
    assert "of step 1, made 17 min" in last
    finished = second.events("session_finished")[-1]
    assert finished["checkpoint_step"] == 1
    assert 1_050 < finished["checkpoint_age_s"] < 1_070


def test_a_disk_slower_than_the_interval_is_told_once(
    box: Box, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Back-pressure: a save that is due while one is in flight waits, and where that happens often it is said, once."""
    session = box.session
    session.pacer.asked_every_s = 1.0
    in_flight = [False]
    monkeypatch.setattr(type(session.saver), "busy", property(lambda saver: in_flight[0]))
    for number in range(6):
        in_flight[0] = False
        assert not box.train(1)  # begins one, which takes three seconds
        assert bool(box.events("saves_put_off")) is (number >= 3), number
        in_flight[0] = True
        assert not box.train(30)
    said = [line for line in capsys.readouterr().err.splitlines() if "checkpoints had to wait" in line]
    assert len(said) == 1
    assert "one was due every 1.0 s" in said[0]


def test_time_in_which_the_process_was_held_is_no_long_step(tmp_path: Path, clock: FakeClock) -> None:
    """A step in which the governor stopped the process for 20 s says nothing of the next: the box is used to its end."""
    box = Box(tmp_path, clock).open()
    assert not box.train(2)
    for _ in range(2):  # twice, so that it is no lone outlier
        send_control(box.session.enrolment.attempt.directory, "extend", extend_s=20.0, why=SLEPT, clock=clock)
        assert not box.train(1, step_s=20.1)
        assert not box.train(1)
    assert box.session.forecast.longest_step_s() < 0.2
    assert len(box.events("extended")) == 2
    assert box.train(10_000)
    assert box.session.remaining_s() < 1.0
    box.session.close(Outcome.TIMEBOXED)


def test_the_first_and_the_last_line(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line tells the box and its source, a later one how many steps fit, the last how it ended."""
    box = Box(tmp_path, clock, total=5_000).open()
    box.train(10_000)
    box.session.close(Outcome.TIMEBOXED)
    said = capsys.readouterr().err
    assert "run counted, starting from scratch: 1 min 00 s until" in said
    assert "timebox('60s')" in said
    assert "more steps fit into this box; the training has about 5000, so it needs about" in said
    last = said.splitlines()[-1]
    assert last.startswith(f"backprop: Stopped at step {box.training_state.step}, 0.")
    assert " s before the deadline. Checkpoint: " in last
    assert last.endswith(" Resume: run='counted'")
    finished = box.events("session_finished")[-1]
    assert finished["steps"] == box.training_state.step
    assert 0 < finished["slack_s"] < 1.0
    assert box.events("fit")


def test_the_lines_say_only_what_is_known(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a checkpoint there is nothing to go on with; a loop without epochs is resumed from a step alone."""
    empty = Box(tmp_path, clock).open()
    empty.session.close(Outcome.STOPPED)
    assert "There is no checkpoint. Start again: run='counted'" in capsys.readouterr().err
    saved = Box(tmp_path, clock).open()
    saved.train(10_000)
    saved.session.close(Outcome.TIMEBOXED)
    assert "Resume: run='counted'" in capsys.readouterr().err
    resumed = Box(tmp_path, clock).open()
    resumed.session.close(Outcome.STOPPED)
    assert f"resumed from step {saved.training_state.step}: " in capsys.readouterr().err


def _told(box: Box) -> dict[str, Any]:
    return box.events("fit")[-1]


def test_the_forecast_of_boxes_counts_start_up_and_reserve_and_learns_from_what_came(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Boxes of 60 s of which 20 s are start-up: what each says is still needed is what then comes, box by box."""
    forecast: list[int] = []
    for number in range(20):
        begun = clock.monotonic()
        box = Box(tmp_path, clock, total=1_500, governed_since=begun, attempt=number + 1)
        clock.advance(20.0)
        box.open()
        left = box.train(1_500 - box.training_state.step)
        if _told(box)["boxes"] is not None:
            forecast.append(number + _told(box)["boxes"])
        box.session.close(Outcome.TIMEBOXED if left else Outcome.COMPLETED)
        if not left:
            break
    assert number >= 3
    assert forecast == [number + 1] * number
    said = capsys.readouterr().err
    assert "Training starts with 40.0 s left of 1 min 00 s (20.0 s went to start-up" in said
    assert f"so it needs about {number} more boxes like this" in said
    assert "so it needs about 1 more box like this" in said
    assert "the training should end in this one, at about step 1500" in said


def test_a_forecast_that_was_far_off_is_told_and_the_next_is_smaller(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps that take four times as long behind the forecast: the last line says so, and the next box expects less."""
    first = Box(tmp_path, clock).open()
    assert not first.train(30)
    assert first.train(10_000, step_s=0.4)
    first.session.close(Outcome.TIMEBOXED)
    came = first.training_state.step
    told = _told(first)["steps_that_fit"]
    assert "more steps were made where" in capsys.readouterr().err
    second = Box(tmp_path, clock).open()
    assert not second.train(30)
    assert _told(second)["steps_that_fit"] < 0.5 * told
    assert came < told
    second.session.close(Outcome.STOPPED)
    assert "more steps were made where" not in capsys.readouterr().err  # somebody ended it


def test_a_box_without_a_step_says_what_was_gone_before_it(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Start-up ate the box: the first line and the last say so."""
    box = Box(tmp_path, clock, governed_since=clock.monotonic(), attempt=1)
    clock.advance(59.9)
    box.open()
    assert box.session.boundary(0)
    box.session.close(Outcome.TIMEBOXED)
    said = capsys.readouterr().err
    assert "Training starts with 0.1 s left of 1 min 00 s (59.9 s went to start-up" in said
    assert "No step was made: 59.9 s of the box had passed when it opened" in said


def test_steps_that_no_boundary_was_told_of_count(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loop so short that no boundary was due: it has made its steps all the same, and no epoch is made up."""
    box = Box(tmp_path, clock).open()
    box.session.boundary(0)
    box.training_state.step = 3
    box.session.close(Outcome.COMPLETED)
    assert "Completed at step 3 after " in capsys.readouterr().err
    record = json.loads((tmp_path / "runs/counted/run.json").read_text())
    assert record["attempts"][0]["steps"] == 3
    assert box.session.checkpoint is not None
    assert box.session.checkpoint.facts.epoch is None


def test_a_state_too_large_for_the_box_is_said_with_numbers(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A save that is known to take 50 s of a box of 60 s is announced before training."""
    home = tmp_path
    box = Box(home, clock).open()
    box.session.forecast.observe_save(1, 50.0)
    box.session.close(Outcome.STOPPED, "to begin with")
    capsys.readouterr()
    again = Box(home, clock).open()
    again.session.weigh()
    assert "saving it takes about" in capsys.readouterr().err
    again.session.close(Outcome.STOPPED)


def test_the_record_keeps_what_was_measured(tmp_path: Path, clock: FakeClock) -> None:
    """run.json holds the budget, its source and the durations of the attempt, for the next one to learn from."""
    box = Box(tmp_path, clock).open()
    box.train(10_000)
    box.session.close(Outcome.TIMEBOXED)
    record = json.loads((tmp_path / "runs/counted/run.json").read_text())
    attempt = record["attempts"][0]
    assert attempt["budget_source"] == "timebox('60s')"
    assert attempt["measured"]["longest_s"]["plain"] == pytest.approx(0.1, abs=0.02)
    assert attempt["measured"]["saves"]


def test_a_periodic_checkpoint_is_in_the_record_at_once(box: Box, tmp_path: Path) -> None:
    """Without a governor the session itself writes each periodic checkpoint into run.json while it trains."""
    box.session.requests.save_asked = True
    box.train(2)
    record = json.loads((tmp_path / "runs/counted/run.json").read_text())
    assert box.session.checkpoint is not None
    assert record["last_checkpoint"] == str(box.session.checkpoint.path)


def test_the_guard_saves_the_last_boundary_while_a_step_hangs(box: Box, clock: FakeClock) -> None:
    """With the main thread stuck behind a boundary, the guard commits that boundary's state once its alarm is due."""
    assert not box.train(400)  # into the end zone
    step = box.training_state.step
    box.training_state.step += 1  # the step that hangs has begun to change the state
    clock.advance(60.0 - 40.0)  # past the last instant for a save
    for _ in range(2_000):
        if box.session.guard.committed:
            break
        threading_wait()
    assert box.session.guard.committed
    assert box.session.checkpoint is not None
    assert box.session.checkpoint.step == step
    assert (box.session.enrolment.attempt.directory / "stacks.txt").read_text()


def test_a_gap_that_fits_no_box_does_not_stop_every_attempt(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an attempt that saw a validation longer than a whole box, the next one says so and trains all the same."""
    first = Box(tmp_path, clock).open()
    first.train(3)
    first.session.boundary(0, phase=Phase.EPOCH_END)
    first.train(1, step_s=100.0)
    first.session.close(Outcome.TIMEBOXED)
    second = Box(tmp_path, clock).open()
    assert not second.train(3)
    assert not second.train(1, then=Phase.EPOCH_END)
    assert "more than this whole box" in capsys.readouterr().err
    second.session.close(Outcome.STOPPED)


def test_a_signal_in_a_long_validation_saves_what_was_before_it(tmp_path: Path, clock: FakeClock) -> None:
    """SIGTERM in the end zone, in a validation longer than the grace: the guard saves its beginning within the grace."""
    import os
    import signal

    box = Box(tmp_path, clock, grace="5s").open()
    assert not box.train(400, phase=Phase.EPOCH_END)
    step = box.training_state.step
    box.training_state.step += 1
    os.kill(os.getpid(), signal.SIGTERM)
    clock.advance(5.0)
    for _ in range(5_000):
        if box.session.guard.committed:
            break
        threading_wait()
    assert box.session.guard.saved_copy
    assert box.session.checkpoint is not None
    assert box.session.checkpoint.step == step
    box.session.close(Outcome.PREEMPTED)


def threading_wait() -> None:
    """Let other threads run for a millisecond of real time; used in loops that wait for a condition."""
    import threading

    threading.Event().wait(0.001)


def test_a_save_that_left_in_place_what_changed_is_repeated_at_the_next_boundary(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base changes between the boundary and the writer's look: nothing is said, and the next step's save has it."""
    box = Box(tmp_path, clock, checkpoint_every="1s")
    base = np.zeros(300_000, np.float32)
    box.training_state.translators = (NumpyTranslator(),)
    box.training_state.extra = base
    box.open()
    store = box.session.saver.store
    commit = store.commit
    changed_at: list[int] = []

    def late(snapshot: Snapshot, facts: CheckpointFacts, **options: Any) -> CheckpointInfo:
        if snapshot.objects["counter"].in_place and not changed_at:
            changed_at.append(facts.step)
            base[7] = 1.0
        return commit(snapshot, facts, **options)

    monkeypatch.setattr(store, "commit", late)
    box.train(80)
    (step,) = changed_at
    saved = [event["step"] for event in box.events("checkpoint_saved")]
    assert step not in saved
    assert saved[saved.index(step + 1) + 1] > step + 5
    assert box.events("checkpoint_failed") == []
    loaded: Any = store.load_newest(box.training_state.translators, told=pytest.fail)
    assert loaded.states["counter"]["extra"][7] == 1.0
    box.session.close(Outcome.STOPPED)
