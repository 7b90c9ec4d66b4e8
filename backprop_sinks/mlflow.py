"""The sink `mlflow`: one MLflow run over all boxes. `--sink mlflow:EXPERIMENT`; the server is MLFLOW_TRACKING_URI's.

What a script logs to MLflow itself is another matter: see docs/trackers.md.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from backprop_core.events.kinds import AttemptEnded
from backprop_core.events.sinks import SinkRun, Told
from backprop_core.outcome import Outcome
from backprop_core.runs.atomic import replace_file
from backprop_core.strict_json import as_object, as_text, decode, encode
from backprop_sinks.curve import Curve

RUN_FILE = "run.json"
MOST_AT_ONCE = 900
"""Numbers in one request; MLflow takes a thousand."""
MOST_WAITING = 100_000
LONGEST_NAME = 250
_STATUS = {
    Outcome.COMPLETED.value: "FINISHED",
    Outcome.FAILED.value: "FAILED",
    Outcome.LOST.value: "FAILED",
    Outcome.TIMEBOXED.value: "SCHEDULED",  # another box is to follow
}


class MlflowSink:
    """Logs numbers over the training's step, each step once, in few requests."""

    needs = "mlflow"

    def __init__(self, run: SinkRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self._metric = Metric
        self._client: Any = MlflowClient()
        self._curve = Curve(run.folder)
        self._waiting: list[Any] = []
        self._outcome: str | None = None
        self._id = self._found(run.folder / RUN_FILE) or self._begun(run)
        self._client.update_run(self._id, status="RUNNING")

    def take(self, told: Told) -> None:
        point = self._curve.point(told.event)
        if point is not None:
            step, values = point
            at_ms = int(told.wall * 1000)
            self._waiting += [
                self._metric(_allowed(name), value, at_ms, step) for name, value in values.items()
            ]
            if len(self._waiting) >= MOST_AT_ONCE:
                self.flush()
        elif isinstance(told.event, AttemptEnded):
            self._outcome = told.event.outcome
            self._client.set_tag(self._id, "backprop.outcome", told.event.outcome)
            self._client.set_tag(self._id, "backprop.reason", told.event.reason)

    def flush(self) -> None:
        """Send what waits. What cannot be sent waits for the next time, the newest `MOST_WAITING` of it.

        Raises:
            MlflowException: the server is not there, or refuses a number, which is then left out.
        """
        from mlflow.exceptions import MlflowException

        while self._waiting:
            try:
                self._client.log_batch(self._id, metrics=self._waiting[:MOST_AT_ONCE])
            except MlflowException as error:
                refused = MOST_AT_ONCE if error.error_code == "INVALID_PARAMETER_VALUE" else 0
                del self._waiting[: max(refused, len(self._waiting) - MOST_WAITING)]
                raise
            del self._waiting[:MOST_AT_ONCE]
        self._curve.keep()

    def close(self) -> None:
        self.flush()
        self._client.set_terminated(self._id, status=_STATUS.get(self._outcome or "", "KILLED"))

    def _found(self, file: Path) -> str | None:
        """The MLflow run of an earlier command, where it is still there."""
        from mlflow.exceptions import MlflowException

        try:
            known = as_text(as_object(decode(file.read_bytes())).get("mlflow_run_id"))
            return known and str(self._client.get_run(known).info.run_id)
        except (OSError, ValueError, MlflowException):
            return None

    def _begun(self, run: SinkRun) -> str:
        import mlflow

        experiment = mlflow.set_experiment(run.argument) if run.argument else None
        made = self._client.create_run(
            experiment.experiment_id if experiment is not None else "0",
            run_name=run.name or run.run_id,
            tags={"backprop.run_id": run.run_id, "backprop.command": shlex.join(run.command)[:5000]},
        )
        found = str(made.info.run_id)
        replace_file(run.folder / RUN_FILE, encode({"mlflow_run_id": found}).encode())
        return found


def _allowed(name: str) -> str:
    """MLflow's names of metrics hold letters, digits and `_-. :/`, and could be a path without `..` in it."""
    parts = "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in name[:LONGEST_NAME]).split("/")
    return "/".join("_" if part in (".", "..") else part for part in parts if part) or "_"
