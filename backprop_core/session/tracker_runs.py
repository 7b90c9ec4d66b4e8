"""The runs of trackers that a script uses by itself: seen, so that the next box can go on in them.

Nothing is imported and nothing replaced: a tracker that the script has imported is asked which run is active. Which
variables have it go on there is in `VARIABLES`; the command sets them for a resumed box. A tracker reads them at its
first run; when that has begun they are taken back, so that a further run of the same process (the next fold) is a new
one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from backprop_core import contract
from backprop_core.events.kinds import TrackerRun

VARIABLES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "wandb": ("WANDB_RUN_ID", {"WANDB_RESUME": "allow"}),
    "mlflow": ("MLFLOW_RUN_ID", {}),
    "comet": ("COMET_EXPERIMENT_KEY", {}),
}
"""By tracker: the variable for the run's id, and what has to be set beside it."""


def _wandb(module: Any) -> object:
    return None if module.run is None else module.run.id


def _mlflow(module: Any) -> object:
    run = module.active_run()
    return None if run is None else run.info.run_id


def _comet(module: Any) -> object:
    experiment = module.get_running_experiment()
    if experiment is None or isinstance(experiment, module.OfflineExperiment):
        return None  # it names its archive by the key: that of the next box would be written over this one's
    return experiment.get_key()


_ASKED: Mapping[str, tuple[str, Callable[[Any], object]]] = {
    "wandb": ("wandb", _wandb),
    "mlflow": ("mlflow", _mlflow),
    "comet": ("comet_ml", _comet),
}


class TrackerRuns:
    """Which runs of trackers have been active in this process."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._seen: set[tuple[str, str]] = set()

    def new(self) -> list[TrackerRun]:
        """The runs that are active now and were not told yet. Never raises."""
        found = []
        for tracker, (name, ask) in _ASKED.items():
            module = sys.modules.get(name)
            if module is None:
                continue
            with suppress(Exception):  # half imported, another version, or a folder of that name
                active = ask(module)
                if isinstance(active, str) and active and (tracker, active) not in self._seen:
                    self._seen.add((tracker, active))
                    found.append(TrackerRun(tracker, active))
                    self._take_back(tracker, active, module)
        return found

    def _take_back(self, tracker: str, active: str, module: Any) -> None:
        """The run that a resumed box was told of has begun: the variables hold for no further one."""
        variable, beside = VARIABLES[tracker]
        if (
            tracker not in self._environ.get(contract.TRACKERS, "").split(",")
            or self._environ.get(variable) != active
        ):
            return
        for name in (variable, *beside):
            self._environ.pop(name, None)
        if tracker == "wandb":  # it has read them once for the whole process
            settings = module.setup().settings
            settings.run_id = settings.resume = None
