"""What the events of a training cost it, at a thousand logged steps a second; prints a table and writes JSON.

Everything that happens in the training's thread is measured one by one, by processor time, and added up: a thousand calls of
`box.log`, a progress event with its line and the learning rate, and a look at the script's trackers. Sinks run in
processes of their own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import ClassVar

from side_by_side import each, show, write

import backprop
from backprop_core.clock import SYSTEM
from backprop_core.events.kinds import Progress
from backprop_core.runs.events import EventLog
from backprop_core.session.learning_rate import rate_of, with_rate
from backprop_core.session.messages import LogValues
from backprop_core.session.tracker_runs import TrackerRuns

STEPS_A_SECOND = 1000
GOAL = 0.1
"""Percent of the time."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BACKPROP_HOME"] = folder
        log = EventLog(Path(folder) / "events.jsonl", SYSTEM)
        values, trackers = LogValues(), TrackerRuns()

        def progress() -> None:
            found = with_rate(values.numbers(), rate_of([Optimizer]))
            log.write(Progress(7, 0, 7, 0.5, found, 60.0, 1000.0, 30.0))

        with backprop.timebox("10m", counter=Counter()) as box:
            values.update({"loss": 0.5, "accuracy": 0.9})
            log_s = each(lambda: box.log(loss=0.5, accuracy=0.9), 50_000)
        progress_s, look_s = each(progress, 5_000), each(trackers.new, 50_000)
    share = (STEPS_A_SECOND * log_s + progress_s + look_s) * 100
    events = (progress_s + look_s) * 100
    rows = [
        {"what": "box.log of two values, each", "value": log_s * 1e6, "unit": "us", "goal": ""},
        {"what": "progress event with its line", "value": progress_s * 1e6, "unit": "us", "goal": ""},
        {"what": "look at the trackers", "value": look_s * 1e6, "unit": "us", "goal": ""},
        {"what": "events, of the time", "value": events, "unit": "%", "goal": GOAL},
        {"what": "events and 1,000 logs a second, of the time", "value": share, "unit": "%", "goal": GOAL},
    ]
    show("Events at a thousand logged steps a second", rows)
    print(f"\nwritten to {write('events', {'rows': rows})}")


class Optimizer:
    """Whose learning rate is read."""

    param_groups: ClassVar[list[dict[str, float]]] = [{"lr": 0.1}]


class Counter:
    """Something to keep."""

    def state_dict(self) -> dict[str, int]:
        return {"n": 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to restore."""


if __name__ == "__main__":
    main()
