"""Runs a test's script on two ranks, in fresh processes, and reads what each rank wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.backprop_torch.cutting import environment

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def train(
    module: str, folder: Path, *words: str, launcher: tuple[str, ...] = TORCHRUN
) -> subprocess.CompletedProcess[str]:
    """Train one piece on two ranks, or as `launcher` says."""
    command = [sys.executable, *launcher, "-m", module, str(folder), *words]
    return subprocess.run(
        command,
        env=environment(folder),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def trained(module: str, folder: Path, *words: str, launcher: tuple[str, ...] = TORCHRUN) -> None:
    """The same, which has to go well."""
    ended = train(module, folder, *words, launcher=launcher)
    assert ended.returncode == 0, ended.stderr[-5000:]


def made(folder: Path, name: str) -> dict[str, Any]:
    """What one rank of one piece wrote."""
    loaded: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return loaded
