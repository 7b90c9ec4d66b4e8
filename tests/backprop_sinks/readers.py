"""Readers of what sinks and trackers have written, each the tool's own where it has one."""

from __future__ import annotations

import json
import struct
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.backprop_cli.commandline import wait_for


def tensorboard_scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """The points of a curve, as TensorBoard's own reader finds them."""
    sys.modules.setdefault(
        "tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf")
    )  # no TensorFlow for it
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return (
        [(point.step, point.value) for point in reader.Scalars(tag)]
        if tag in reader.Tags()["scalars"]
        else []
    )


def wandb_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of all offline runs below a folder, the older run first."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for file in sorted(folder.rglob("*.wandb"))
        for record in _wandb_records(file)
        if record.WhichOneof("record_type") == "history"
    ]


def wandb_runs(folder: Path) -> list[str]:
    """The ids of all offline runs below a folder, the older first; waits until each is over."""
    files = sorted(folder.rglob("*.wandb"))

    def all_over() -> bool:  # W&B's service writes a little behind `finish`
        kinds = [{record.WhichOneof("record_type") for record in _wandb_records(file)} for file in files]
        return all("exit" in kind for kind in kinds)

    wait_for(all_over)
    return [
        next(r.run.run_id for r in _wandb_records(file) if r.WhichOneof("record_type") == "run")
        for file in files
    ]


def _wandb_records(file: Path) -> list[Any]:
    from wandb.proto import wandb_internal_pb2

    return [wandb_internal_pb2.Record.FromString(data) for data in _records(file.read_bytes())]


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: blocks of 32 KiB, pieces with checksum, length and kind; W&B's
    header of seven bytes stands in the first block.
    """
    block, at, pieces = 32_768, 7, b""
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if kind == 0:
            return
        pieces += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield pieces
            pieces = b""


def comet_offline(folder: Path) -> list[tuple[str, list[tuple[int, float]]]]:
    """Of each archive that Comet has left in a folder, the older first: its experiment's key, and the points of `n`."""
    found = []
    for file in sorted(folder.glob("*.zip"), key=lambda one: one.stat().st_mtime_ns):
        with zipfile.ZipFile(file) as archive:
            key = json.loads(archive.read("experiment.json"))["offline_id"]
            messages = [json.loads(line) for line in archive.read("messages.json").splitlines()]
        metrics = [one["payload"]["metric"] for one in messages if one["type"] == "metric_msg"]
        found.append(
            (key, [(one["step"], one["metricValue"]) for one in metrics if one["metricName"] == "n"])
        )
    return found


def mlflow_points(store: str, experiment: str, metric: str) -> list[tuple[int, float]]:
    """The points of a metric of the only run of an experiment."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    (run,) = client.search_runs([experiment])
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]
