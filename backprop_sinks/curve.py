"""The numbers of a run over its steps, for sinks that draw curves."""

from __future__ import annotations

from pathlib import Path

from backprop_core.events.kinds import Ended, Event, PrintedProgress, Progress
from backprop_core.runs.atomic import replace_file
from backprop_core.strict_json import as_object, as_whole, decode, encode

HasNumbers = (Progress, Ended, PrintedProgress)
"""Events with a step and what was logged up to it."""


class Curve:
    """Numbers over steps, each step once, however often boxes were killed and went on from an older checkpoint.

    For trackers that cannot take back a point. A training that goes on from a checkpoint makes the same steps again,
    with the same values, so those that were told before are left out.

    Args:
        folder: the sink's; the newest step is kept there for the next attempt.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "curve.json"
        self._told = self._kept = self._read()

    def point(self, event: Event) -> tuple[int, dict[str, float]] | None:
        """The step and the numbers of an event that has any, beyond all steps that were told before; else None."""
        if not isinstance(event, HasNumbers) or event.step is None or event.step <= self._told:
            return None
        self._told = event.step
        return event.step, numbers(event)

    def keep(self) -> None:
        """What was told so far has arrived: not to be told again."""
        if self._told != self._kept:
            replace_file(self._file, encode({"step": self._told}).encode())
            self._kept = self._told

    def _read(self) -> int:
        try:
            known = as_whole(as_object(decode(self._file.read_bytes())).get("step"))
        except (OSError, ValueError):
            return -1
        return -1 if known is None else known


def numbers(event: Progress | Ended | PrintedProgress) -> dict[str, float]:
    """The logged values that are numbers, and beside them the rate as `backprop/steps_per_second`."""
    if isinstance(event, PrintedProgress):
        return {} if event.loss is None else {"loss": event.loss}
    found = {
        key: float(value)
        for key, value in event.values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if isinstance(event, Progress) and event.rate is not None:
        found["backprop/steps_per_second"] = event.rate
    return found
