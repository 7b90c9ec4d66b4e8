"""A resumed script goes on in the run of its tracker: the variables for that, set only where the user has set none."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from backprop_core import contract
from backprop_core.config.sources import Settings
from backprop_core.events.kinds import TrackerRun, read_as
from backprop_core.runs.attempt import EVENTS_FILE
from backprop_core.runs.events import read_kinds
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore
from backprop_core.session.tracker_runs import VARIABLES

_NAMES = {"wandb": "W&B", "mlflow": "MLflow", "comet": "Comet"}


def tracker_variables(
    store: RunStore, record: RunRecord, environ: Mapping[str, str]
) -> tuple[dict[str, str], str]:
    """What the next attempt of a run is told, and the line for the user; both empty where there is nothing to tell.

    A script that has used several runs of a tracker in one attempt, such as one for each fold, is told nothing: which
    of them it begins with is its own.
    """
    variables: dict[str, str] = {}
    told = []
    for tracker, ids in _used(store, record).items():
        variable, beside = VARIABLES[tracker]
        if len(ids) == 1 and not any(name in environ for name in (variable, *beside)):
            variables |= {variable: ids[0], **beside}
            told.append((tracker, ids[0]))
    if not told:
        return {}, ""
    variables[contract.TRACKERS] = ",".join(tracker for tracker, _ in told)
    runs = " and ".join(f"{_NAMES[tracker]} run {run_id}" for tracker, run_id in told)
    return variables, f"the script continues {runs} (--no-tracker starts a new one)."


def tracker_variables_for(
    record: RunRecord, resumes: bool, settings: Settings, store: RunStore, say: Callable[[str], None]
) -> Mapping[str, str]:
    """The variables of an attempt that is about to begin; what they do is told."""
    if not (resumes and settings["tracker"]):
        return {}
    variables, told = tracker_variables(store, record, os.environ)
    if told:
        say(told)
    return variables


def _used(store: RunStore, record: RunRecord) -> dict[str, list[str]]:
    """The runs that the newest attempt with any has used, by tracker."""
    for attempt in reversed(record.attempts):
        lines = read_kinds(store.attempt_dir(record.id, attempt.number) / EVENTS_FILE, (TrackerRun.kind,))
        runs = [
            run
            for line in lines
            if (run := read_as(TrackerRun, line)) is not None and run.tracker in VARIABLES
        ]
        if runs:
            return {
                tracker: list(dict.fromkeys(run.id for run in runs if run.tracker == tracker))
                for tracker in dict.fromkeys(run.tracker for run in runs)
            }
    return {}
