"""Which runs are meant, and in which order."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from backprop_core.errors import UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import EVENTS_FILE, attempt_dir
from backprop_core.runs.events import EventLog
from backprop_core.runs.listing import RunRow
from backprop_core.runs.selection import Condition, Metrics, parse_condition
from backprop_core.testing.clock import FakeClock

NOW = 2000.0


def _row(name: str, loss: float | None = None, ended: float | None = 1500.0) -> RunRow:
    return RunRow(name, None, Outcome.COMPLETED, "train.py", 1000.0, ended, 7, loss, None, 0)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("loss<0.5", Condition("loss", "<", 0.5)),
        (" val/loss >= -1e-3 ", Condition("val/loss", ">=", -0.001)),
        ("top-5 acc==1", Condition("top-5 acc", "==", 1.0)),
        ("step!=7", Condition("step", "!=", 7.0)),
    ],
)
def test_conditions_are_read_as_they_are_written(text: str, condition: Condition) -> None:
    """Names with slashes and blanks, every sign, and numbers of every notation."""
    assert parse_condition(text) == condition


@pytest.mark.parametrize("text", ["", "loss", "<1", "loss<", "loss<low", "loss<1<2", "a=>1"])
def test_what_is_no_condition_is_refused_with_an_example(text: str) -> None:
    """A condition that cannot be read is one sentence, and shows how one looks."""
    with pytest.raises(UsageError, match="--where") as raised:
        parse_condition(text)
    assert "loss<0.5" in raised.value.hint


def test_a_number_that_is_not_known_meets_no_condition() -> None:
    """Neither a missing loss nor a nan is under a limit, over it, or equal to it."""
    for value in (None, math.nan):
        assert not any(
            Condition("loss", sign, 1.0).holds(value) for sign in ("<", "<=", ">", ">=", "==", "=")
        )
    assert not Condition("loss", "!=", 1.0).holds(None)


def test_logged_values_come_from_the_newest_attempt_that_logged_any(tmp_path: Path) -> None:
    """The last word of the second attempt counts, though a third began and said nothing."""
    for number, values in ((1, {"acc": 0.1}), (2, {"acc": 0.9, "lr": 1}), (3, None)):
        folder = attempt_dir(tmp_path / "runs" / "a", number)
        folder.mkdir(parents=True)
        log = EventLog(folder / EVENTS_FILE, FakeClock())
        log.append("session_started")
        if values:
            log.append("progress", step=1, values={"acc": 0.0})
            log.append("progress", step=2, values={**values, "word": "no number"})
        log.close()
    metrics = Metrics(tmp_path, NOW)
    assert metrics.of(_row("a"), "acc") == 0.9
    assert metrics.of(_row("a"), "word") is None
    assert metrics.of(_row("missing"), "acc") is None
    assert metrics.names() == {"acc", "lr"}
    assert metrics.of(_row("a"), "duration") == 500.0


def test_runs_without_the_number_come_last_either_way(tmp_path: Path) -> None:
    """Sorting by loss puts nan and what is not known behind all others, also in reverse."""
    rows = [_row("n", math.nan), _row("high", 2.0), _row("none"), _row("low", 1.0)]
    metrics = Metrics(tmp_path, NOW)
    assert [row.id for row in metrics.sorted(rows, "loss")] == ["low", "high", "n", "none"]
    assert [row.id for row in metrics.sorted(rows, "loss", reverse=True)] == ["high", "low", "n", "none"]
    assert [row.id for row in metrics.sorted(rows, "id")] == ["high", "low", "n", "none"]
