"""The sink `wandb`: one Weights & Biases run over all boxes. `--sink wandb:PROJECT`, else W&B's own settings name the
project.

What a script logs to W&B itself is another matter: see docs/trackers.md.
"""

from __future__ import annotations

from typing import Any

from backprop_core.events.kinds import AttemptEnded
from backprop_core.events.sinks import SinkRun, Told
from backprop_core.outcome import Outcome
from backprop_sinks.curve import Curve

STEP = "step"
_GOES_WRONG = (Outcome.FAILED.value, Outcome.LOST.value)


class WandbSink:
    """Logs numbers over the training's step, each step once."""

    needs = "wandb"

    def __init__(self, run: SinkRun) -> None:
        import wandb

        self._curve = Curve(run.folder)
        self._outcome: str | None = None
        settings = wandb.Settings(console="off", disable_git=True, save_code=False, x_disable_stats=True)
        self._run: Any = wandb.init(
            project=run.argument or None,
            id=run.run_id,
            name=run.name or run.run_id,
            resume="allow",
            dir=str(run.folder),
            config={"command": list(run.command)},
            settings=settings,
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def take(self, told: Told) -> None:
        point = self._curve.point(told.event)
        if point is not None:
            step, values = point
            self._run.log({**values, STEP: step})
        elif isinstance(told.event, AttemptEnded):
            self._outcome = told.event.outcome
            summary = {"backprop/outcome": told.event.outcome, "backprop/reason": told.event.reason}
            self._run.summary.update({**summary, "backprop/checkpoint": told.event.checkpoint})

    def flush(self) -> None:
        self._curve.keep()

    def close(self) -> None:
        self._curve.keep()
        self._run.finish(exit_code=1 if self._outcome in _GOES_WRONG else 0)
