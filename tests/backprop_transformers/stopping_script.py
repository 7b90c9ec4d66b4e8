"""The unmodified example, which is told by its control file to stop in the middle of its first attempt."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import transformers

from backprop_core.runs.control import Action, send_control

original = transformers.Trainer.training_step


def stop_when_half_done(self: Any, *args: Any, **kwargs: Any) -> Any:
    if self.state.global_step == 60 and os.environ["BACKPROP_ATTEMPT"] == "1":
        folder = Path(os.environ["BACKPROP_RUN_DIR"]) / "attempts" / os.environ["BACKPROP_ATTEMPT"]
        send_control(folder, Action.STOP)
    return original(self, *args, **kwargs)


transformers.Trainer.training_step = stop_when_half_done  # type: ignore[method-assign]
runpy.run_path(
    str(Path(__file__).parents[2] / "examples/unmodified/text_transformers.py"), run_name="__main__"
)
