"""Where benchmarks/gpu.py measures: a device, a folder, an end; and a row of its table."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where it is measured.

    Attributes:
        device: "cuda" or "cpu".
        nbytes: of the large state.
        folder: for checkpoints and runs.
        end_s: when all has to be over, monotonic.
    """

    device: str
    nbytes: int
    folder: Path
    end_s: float

    @property
    def left_s(self) -> float:
        return self.end_s - time.monotonic()

    def wait(self) -> None:
        """Until the device has done what is queued."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def environ(self) -> dict[str, str]:
        """For a run in the folder that waits for nothing but the GPU itself."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("BACKPROP_")}
        probe = "auto" if self.device == "cuda" else "none"
        own |= {"BACKPROP_HOME": str(self.folder / "home"), "BACKPROP_RUNTIME_DIR": str(self.folder / "run")}
        own |= {"BACKPROP_MIN_FREE_RAM": "0", "BACKPROP_MAX_LOAD": "1000", "BACKPROP_GPU_PROBE": probe}
        return own | {"BACKPROP_MAX_PARALLEL": "64", "BACKPROP_GPU_MIN_VRAM": "500"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`backprop run WORDS`."""
        command = [sys.executable, "-m", "backprop_cli", "run", "--no-wait", *words]
        return subprocess.run(
            command,
            env=self.environ(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=self.left_s,
        )


def row(check: str, what: str, measured: Any, goal: str = "", good: bool | None = None) -> Row:
    """One line of the table; `good` is None for what has no goal."""
    said = "" if good is None else "yes" if good else "NO"
    return {"check": check, "what": what, "measured": measured, "goal": goal, "good": said}


def timed(place: Place, work: Callable[[], None]) -> float:
    """Seconds of `work`, begun with a device that has nothing to do."""
    place.wait()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
