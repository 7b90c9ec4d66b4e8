"""The sink `tensorboard`: event files that TensorBoard opens, one curve over all boxes.

`--sink tensorboard` writes into the run's folder, `--sink tensorboard:logs` into `logs/<run>` of the script's.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

from backprop_core.events.kinds import (
    AttemptEnded,
    CheckpointRestored,
    CheckpointSaved,
    Ended,
    Progress,
    Sampled,
)
from backprop_core.events.sinks import SinkRun, Told
from backprop_sinks.curve import HasNumbers, numbers

FLUSH_S = 2
_GIGABYTE = 1e9


class TensorBoardSink:
    """Writes one event file for each command."""

    needs = "tensorboard"

    def __init__(self, run: SinkRun) -> None:
        # TensorBoard takes TensorFlow where it is installed, which takes seconds to import; this is its own way to say no.
        sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2, summary_pb2
        self._folder = folder_of(run)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventFileWriter(
            str(self._folder), flush_secs=FLUSH_S, filename_suffix=f".{os.getpid()}"
        )
        self._step = 0

    def take(self, told: Told) -> None:
        event = told.event
        if isinstance(event, CheckpointRestored):
            self._take_back(event.step + 1, told.wall)
        elif isinstance(event, HasNumbers) and event.step is not None:
            if isinstance(event, Ended) and event.step <= self._step:
                return  # told a moment ago
            self._step = event.step
            found = numbers(event)
            if isinstance(event, Progress) and event.remaining_s is not None:
                found["backprop/remaining_s"] = event.remaining_s
            self._scalars(found, told.wall)
        elif isinstance(event, Sampled):
            self._scalars(_of_machine(event), told.wall)
        elif isinstance(event, CheckpointSaved):
            self._text("backprop/checkpoints", f"step {event.step}, {event.reason}: {event.path}", told.wall)
        elif isinstance(event, AttemptEnded):
            text = f"attempt {event.attempt}: {event.outcome}. {event.reason}"
            self._text("backprop/attempts", text, told.wall)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _take_back(self, step: int, wall: float) -> None:
        """Points from `step` on, which a box made that was killed behind its last checkpoint, come again: readers
        drop them.
        """
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._writer.add_event(self._event.Event(wall_time=wall, step=step, session_log=start))
        self._step = step - 1

    def _scalars(self, values: dict[str, float], wall: float) -> None:
        if values:
            made = [self._summary.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
            self._add(self._summary.Summary(value=made), wall)

    def _text(self, tag: str, text: str, wall: float) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(text_pb(tag, text), wall)

    def _add(self, summary: Any, wall: float) -> None:
        self._writer.add_event(self._event.Event(wall_time=wall, step=self._step, summary=summary))


def folder_of(run: SinkRun) -> Path:
    """Where the event files of a run lie."""
    return Path(run.cwd, run.argument, run.run_id) if run.argument else run.folder / run.run_id


def _of_machine(event: Sampled) -> dict[str, float]:
    found = {}
    if event.rss_bytes:
        found["backprop/memory_gb"] = event.rss_bytes / _GIGABYTE
    for place, gpu in enumerate(event.gpus or ()):
        for key in ("temperature_c", "utilization_percent", "power_w"):
            value = gpu.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[f"backprop/gpu{place}/{key}"] = float(value)
    return found
