"""What every sink must do, as a test class: derive from it, tell it how to make the sink and how to read its curve."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from backprop_core.events.kinds import KINDS, CheckpointRestored, Ended, Event, Progress
from backprop_core.events.sinks import Sink, SinkRun, Told

_EXAMPLES: Mapping[str, Any] = {"str": "text", "int": 7, "float": 0.5, "bool": True}
_WALL = 1_700_000_000.0


def example(kind: type[Event]) -> Event:
    """One event of a kind, with something in every field."""
    values: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        first = str(one.type).partition(" | ")[0]
        values[one.name] = (
            ({"uuid": "a", "temperature_c": 50.0},) if first.startswith("tuple") else _EXAMPLES.get(first, {})
        )
    return kind(**values)


def told(event: Event, attempt: int = 1, wall: float = _WALL) -> Told:
    """An event as a sink is told of it."""
    return Told(event, {"kind": event.kind, "wall": wall, "monotonic": 0.0, **event.facts()}, attempt, wall)


def progress(step: int | None, **values: Any) -> Progress:
    """A progress event with these logged values."""
    return Progress(step, 0, step, values.get("loss"), values, 60.0, 10.0, None)


class SinkContract(ABC):
    """Derive, implement `make` and `curve`, and run with pytest."""

    @abstractmethod
    def make(self, run: SinkRun) -> Sink:
        """A new sink for a run; called again for its next command."""

    @abstractmethod
    def curve(self, run: SinkRun) -> list[tuple[int, float]] | None:
        """The points of the logged value `loss` by step, as a reader of the sink's output finds them in order; None
        for a sink that draws no curve.
        """

    @pytest.fixture
    def sink_run(self, tmp_path: Path) -> SinkRun:
        """A run whose folders exist."""
        folder = tmp_path / "sink"
        folder.mkdir()
        return SinkRun("run-1", None, ("train.py", "--lr", "0.1"), str(tmp_path), folder)

    def test_it_takes_every_kind_of_event(self, sink_run: SinkRun) -> None:
        """An event of any kind is taken without an error, also where nothing is made of it."""
        sink = self.make(sink_run)
        self._tell(sink, map(example, KINDS.values()))
        sink.close()

    def test_odd_values_do_no_harm(self, sink_run: SinkRun) -> None:
        """Values that are no numbers, not finite, or of odd names cost at most themselves: the next point is there."""
        sink = self.make(sink_run)
        odd = {
            "loss": math.nan,
            "big": math.inf,
            "text": "a\nb",
            "yes": True,
            "a b/c:d#e'é": 1.0,
            "x" * 300: 2.0,
            "": 3.0,
        }
        self._tell(sink, [progress(None, loss=1.0), progress(1, **odd), progress(2), progress(3, loss=0.25)])
        sink.close()
        curve = self.curve(sink_run)
        assert curve is None or curve[-1] == (3, 0.25)

    def test_one_curve_over_a_killed_box(self, sink_run: SinkRun) -> None:
        """A box that was killed behind its last checkpoint, and the next one that makes the same steps again, are one
        curve: each step once, in order.
        """
        first = self.make(sink_run)
        self._tell(first, [progress(step, loss=1 / step) for step in range(1, 11)])
        first.close()
        second = self.make(sink_run)
        again = [progress(step, loss=1 / step) for step in range(6, 16)]
        self._tell(second, [CheckpointRestored("step-5", 5), *again], attempt=2, wall=_WALL + 100)
        second.close()
        curve = self.curve(sink_run)
        assert curve is None or [step for step, _ in curve] == list(range(1, 16))

    def test_the_last_values_are_there(self, sink_run: SinkRun) -> None:
        """What a training logged between its last progress and its end is the curve's last point."""
        sink = self.make(sink_run)
        ended = Ended("completed", "", 9, 9, 0.5, None, None, None, 1.0, 1.0, None, {"loss": 0.5}, {})
        self._tell(sink, [progress(8, loss=1.0), ended])
        sink.close()
        curve = self.curve(sink_run)
        assert curve is None or curve == [(8, 1.0), (9, 0.5)]

    def test_a_run_of_which_nothing_is_told(self, sink_run: SinkRun) -> None:
        """A script that ends at once leaves a sink that was made and closed."""
        self.make(sink_run).close()
        assert not self.curve(sink_run)

    @staticmethod
    def _tell(sink: Sink, events: Iterable[Event], *, attempt: int = 1, wall: float = _WALL) -> None:
        for place, event in enumerate(events):
            sink.take(told(event, attempt, wall + place))
            sink.flush()
