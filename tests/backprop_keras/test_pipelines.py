"""Passes over a tf.data pipeline in a loop of the user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from backprop_keras.pipelines import PassLedger, PipelineReading


class _Pipeline:
    """As a shuffling pipeline does, each pass has an order of its own: here the number of the pass."""

    def __init__(self) -> None:
        self.begun = 0

    def cardinality(self) -> int:
        return 3

    def __iter__(self) -> Iterator[str]:
        number, self.begun = self.begun, self.begun + 1
        return iter([f"{number}.{item}" for item in range(3)])


class _Randomness:
    def __init__(self) -> None:
        self.now: Mapping[str, object] = {"python": 1}

    def randomness(self) -> Mapping[str, object]:
        return self.now

    def set_randomness(self, states: Mapping[str, object]) -> None:
        self.now = states


@pytest.mark.parametrize(
    "saved",
    [{"randomness": {"python": 7}, "passes": 2}, {"python": 7}],
    ids=["now", "before they were counted"],
)
def test_an_interrupted_pass_goes_on_as_the_one_that_it_was(saved: Any) -> None:
    """A fresh process makes the passes before it again, and sets the generators to where they were when it began."""
    pipeline, randomness = _Pipeline(), _Randomness()
    passes = PassLedger().of(pipeline)
    passes.due = 2
    reading = PipelineReading(pipeline, passes, randomness)  # type: ignore[arg-type]
    assert list(reading.begin(saved, 1, lambda: None)) == ["2.1", "2.2"]
    assert randomness.now == {"python": 7}
    assert reading.position(midway=False) == {"randomness": {"python": 7}, "passes": 2}
