"""The example, which is told by its control file to stop in the middle of the third epoch of its first attempt."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from backprop_core.runs.control import Action, send_control


def stop_when_half_done(module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
    if module.global_step == 120 and os.environ["BACKPROP_ATTEMPT"] == "1":
        folder = Path(os.environ["BACKPROP_RUN_DIR"]) / "attempts" / os.environ["BACKPROP_ATTEMPT"]
        send_control(folder, Action.STOP)


pl.LightningModule.on_train_batch_end = stop_when_half_done  # type: ignore[method-assign,assignment]
runpy.run_path(str(Path(__file__).parents[2] / "examples" / "digits_lightning.py"), run_name="__main__")
