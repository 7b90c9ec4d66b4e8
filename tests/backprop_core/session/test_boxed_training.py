"""What is the same for every adapter: the way in, the one way out, the facts, and the keywords."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any, Unpack

import pytest

import backprop
from backprop_core.deadline.budget import Duration
from backprop_core.errors import StateMismatchError, StoreError
from backprop_core.outcome import Outcome
from backprop_core.runs.events import read_events
from backprop_core.session.box_callback import BoxCallback, BoxKeywords, lists_keywords
from backprop_core.session.boxed_training import BoxedTraining, Teller, begun, how_it_ended
from backprop_core.session.join_run import NotJoinedError
from backprop_core.session.session import Session
from backprop_core.session.settings import make_settings
from backprop_core.testing.clock import FakeClock
from backprop_core.testing.counting_state import CountingState


class Callback(BoxCallback):
    """The smallest callback."""

    framework_name = "counting"

    @lists_keywords
    def __init__(self, budget: Duration | None = None, **keywords: Unpack[BoxKeywords]) -> None:
        self._set_up(budget, keywords)
        self.box: BoxedTraining | None = None

    def _teller(self) -> Teller | None:
        return None if self.box is None else self.box.session


def _opened(home: Path, given_back: list[str], **keywords: Any) -> BoxedTraining:
    settings = make_settings(budget="60s", run="counted", environ={"BACKPROP_HOME": str(home)}, **keywords)
    box = BoxedTraining(
        Session(settings, CountingState(), clock=FakeClock()), lambda: given_back.append("all")
    )
    box.open()
    return box


def test_the_facts_before_in_and_after(tmp_path: Path) -> None:
    """They can be read at any time, and have one type throughout."""
    callback = Callback()
    assert (callback.outcome, callback.run_id, callback.remaining, callback.progress) == (
        Outcome.RUNNING,
        "",
        math.inf,
        0.0,
    )
    assert (callback.checkpoint, callback.resumed_from) == (None, None)
    callback.box = _opened(tmp_path, [])
    assert (callback.run_id, callback.remaining) == ("counted", 60.0)
    callback.box.completed()
    assert callback.outcome == Outcome.COMPLETED
    assert callback.checkpoint is not None
    assert callback.checkpoint.is_dir()
    assert callback.run_id == "counted"


def test_a_training_ends_once(tmp_path: Path) -> None:
    """The first end counts, what was replaced is given back once, and the events tell of one end."""
    given_back: list[str] = []
    box = _opened(tmp_path, given_back)
    box.ended(ValueError("no data"))
    box.completed()
    box.left()
    box.step_aside(RuntimeError("late"))
    box._forgotten()
    assert (box.session.outcome, box.session.reason) == (Outcome.FAILED, "ValueError: no data")
    assert given_back == ["all"]
    events = read_events(tmp_path / "runs/counted/attempts/1/events.jsonl")
    assert [one["kind"] for one in events].count("session_finished") == 1


def test_the_end_of_the_process_ends_a_box(tmp_path: Path) -> None:
    """A framework that never comes back leaves a failed attempt, and not one that runs for ever."""
    box = _opened(tmp_path, [])
    box._forgotten()
    assert box.session.outcome == Outcome.FAILED


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (None, Outcome.COMPLETED, ""),
        (KeyboardInterrupt(), Outcome.STOPPED, "interrupted by the keyboard"),
        (ValueError("x"), Outcome.FAILED, "ValueError: x"),
        (SystemExit(3), Outcome.FAILED, "SystemExit: 3"),
    ],
)
def test_what_an_error_makes_of_a_training(
    error: BaseException | None, outcome: Outcome, reason: str
) -> None:
    """One table for all adapters."""
    assert how_it_ended(error) == (outcome, reason)


def _fails(error: Exception) -> Any:
    def begin() -> None:
        raise error

    return begin


def test_an_attached_box_that_cannot_be_opened_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """One line says why; a run that is another process's says nothing. A checkpoint that does not fit ends the script."""
    assert begun(_fails(StoreError("The disk is full.", "")), name="mine", attached=True) is None
    assert begun(_fails(NotJoinedError("taken")), name="mine", attached=True) is None
    assert begun(_fails(StoreError("unheard", "")), name="mine", attached=True, says=False) is None
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("backprop: could not attach to mine: StoreError: The disk is full.")
    with pytest.raises(StateMismatchError):
        begun(_fails(StateMismatchError("It does not fit.", "")), name="mine", attached=True)


def test_a_box_that_the_script_asked_for_says_its_error() -> None:
    """It is raised."""
    with pytest.raises(StoreError):
        begun(_fails(StoreError("The disk is full.", "")), name="mine", attached=False)


def test_callbacks_take_what_timebox_takes() -> None:
    """The same keywords, with the same types and defaults, and `help` lists them; another one is an error that names it."""
    theirs = list(inspect.signature(backprop.timebox, eval_str=True).parameters.values())[:-1]
    ours = list(inspect.signature(Callback).parameters.values())
    assert [str(one) for one in ours] == [str(one) for one in theirs]
    with pytest.raises(TypeError, match=r"Callback\(\) got an unexpected keyword argument 'buget'"):
        Callback(buget="5m")  # type: ignore[call-arg]
