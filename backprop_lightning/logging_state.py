"""What Lightning knows of logged values between two batches, which its own checkpoint leaves out.

Sums of an epoch that is half over, the metrics that plateau schedulers and EarlyStopping look at, and the states of
torchmetrics: without them the first epoch end after a resume would report the second half of the epoch alone. And the rows
of a CSVLogger, which deletes its file when it is made again with the same version.
"""

from __future__ import annotations

import builtins
import csv
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from backprop_lightning.package import package_of

_CONNECTOR = (
    "_first_loop_iter",
    "_current_fx",
    "_callback_metrics",
    "_logged_metrics",
    "_progress_bar_metrics",
)
_META = (
    "fx",
    "name",
    "prog_bar",
    "logger",
    "on_step",
    "on_epoch",
    "enable_graph",
    "add_dataloader_idx",
    "dataloader_idx",
    "metric_attribute",
)
_LARGEST_CSV = 16 << 20
"""Bytes. A longer metrics.csv would make each save longer than it is worth."""
_SUMS = ("_forward_cache", "_computed", "_update_count", "has_reset")


def capture(trainer: Any) -> dict[str, Any]:
    """The running epoch's logged values."""
    connector, results = trainer._logger_connector, trainer.fit_loop.epoch_loop._results
    return {
        "connector": {name: _copied(getattr(connector, name, None)) for name in _CONNECTOR},
        "results": [_result(key, value) for key, value in results.items() if value.meta.sync.group is None],
        "metrics": {name: _metric(metric) for name, metric in _metrics(trainer.lightning_module)},
        "csv": {str(path): _rows(writer, path) for writer, path in _csv_writers(trainer)},
    }


def restore(trainer: Any, saved: Mapping[str, Any]) -> None:
    """Put it back, in the middle of the epoch."""
    device = trainer.lightning_module.device
    for name, metric in _metrics(trainer.lightning_module):
        if name in saved["metrics"]:
            _restore_metric(metric, saved["metrics"][name], device)
    results = trainer.fit_loop.epoch_loop._results
    results.clear()
    for one in saved["results"]:
        results[one["key"]] = _rebuilt(trainer, one, device)
    for name, value in saved["connector"].items():
        setattr(trainer._logger_connector, name, _copied(value))
    for writer, path in _csv_writers(trainer):
        rows = saved.get("csv", {}).get(str(path))
        if rows is not None:
            _restore_rows(writer, path, rows)


def _csv_writers(trainer: Any) -> Iterator[tuple[Any, Path]]:
    """What writes the `metrics.csv` of each CSVLogger, and where that is."""
    for logger in trainer.loggers:
        writer: Any = getattr(logger, "_experiment", None)
        if all(hasattr(writer, name) for name in ("metrics_file_path", "metrics_keys", "metrics")):
            yield writer, Path(writer.metrics_file_path)


def _rows(writer: Any, path: Path) -> dict[str, Any] | None:
    """The file's text and the rows that are not in it yet; None where that is too much, or cannot be read."""
    try:
        if path.exists() and path.stat().st_size > _LARGEST_CSV:
            return None
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        text = ""
    except OSError:
        return None
    return {"text": text, "rows": [dict(row) for row in writer.metrics]}


def _restore_rows(writer: Any, path: Path, saved: Mapping[str, Any]) -> None:
    if saved["text"]:
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(saved["text"])
        writer.metrics_keys = next(csv.reader(saved["text"].splitlines()))
    writer.metrics[:0] = [dict(row) for row in saved["rows"]]


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


def _metrics(module: Any) -> Iterator[tuple[str, Any]]:
    """The torchmetrics of a module by name."""
    torchmetrics = sys.modules.get("torchmetrics")
    if torchmetrics is not None:
        for name, child in module.named_modules():
            if isinstance(child, torchmetrics.Metric):
                yield name, child


def _metric(metric: Any) -> dict[str, Any]:
    states = {name: getattr(metric, name) for name in metric._defaults}
    return {
        "states": {name: list(value) if isinstance(value, list) else value for name, value in states.items()},
        "count": metric._update_count,
        "cache": metric._forward_cache if isinstance(metric._forward_cache, torch.Tensor) else None,
    }


def _restore_metric(metric: Any, saved: Mapping[str, Any], device: Any) -> None:
    for name, value in saved["states"].items():
        if name in metric._defaults:
            setattr(metric, name, _on(value, device))
    metric._update_count = saved["count"]
    metric._forward_cache = _on(saved["cache"], device)
    metric._computed = None


def _on(value: Any, device: Any) -> Any:
    """A private copy on `device`: metrics add to their states in place."""
    if isinstance(value, list):
        return [_on(one, device) for one in value]
    return value.clone().to(device) if isinstance(value, torch.Tensor) else value


def _result(key: str, result: Any) -> dict[str, Any]:
    meta = result.meta
    sums = {name: getattr(result, name, None) for name in _SUMS}
    if result.is_tensor:
        sums["value"] = result.value
        sums["cumulated_batch_size"] = getattr(result, "cumulated_batch_size", None)
    return {
        "key": key,
        "is_tensor": result.is_tensor,
        "meta": {name: getattr(meta, name) for name in _META},
        "reduce": meta.reduce_fx.__name__,
        "reduce_of_torch": getattr(torch, meta.reduce_fx.__name__, None) is meta.reduce_fx,
        "sync": meta.sync.should,
        "rank_zero_only": meta.sync.rank_zero_only,
        "sums": sums,
    }


def _rebuilt(trainer: Any, saved: Mapping[str, Any], device: Any) -> Any:
    module = import_module(f"{package_of(trainer)}.trainer.connectors.logger_connector.result")
    reduce_fx = getattr(torch if saved["reduce_of_torch"] else builtins, saved["reduce"])
    meta = module._Metadata(**saved["meta"], reduce_fx=reduce_fx)
    meta.sync = module._Sync(
        _should=saved["sync"], fn=trainer.strategy.reduce, rank_zero_only=saved["rank_zero_only"]
    )
    result = module._ResultMetric(meta, saved["is_tensor"])
    for name, value in saved["sums"].items():
        if value is not None or name in _SUMS:
            setattr(result, name, _on(value, device))
    if not saved["is_tensor"]:
        result.value = trainer.lightning_module.get_submodule(saved["meta"]["metric_attribute"])
    return result
