"""Lightning has two names whose classes are not the same, and scripts import in any order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.backprop_torch.cutting import environment

SCRIPT = """
from importlib import import_module
from backprop_lightning import BackpropCallback
{other}
pl = import_module({name!r})
ours = BackpropCallback("1m")
assert isinstance(ours, BackpropCallback) and isinstance(ours, pl.Callback)
pl.Trainer(callbacks=ours, logger=False, enable_checkpointing=False)
"""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("lightning.pytorch", marks=pytest.mark.long),
        pytest.param("pytorch_lightning", marks=pytest.mark.faults),
    ],
)
def test_the_callback_may_be_imported_before_lightning(name: str, tmp_path: Path) -> None:
    """A Trainer of either name takes it, whatever was imported first."""
    other = {"pytorch_lightning": "import lightning.pytorch", "lightning.pytorch": ""}[name]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(name=name, other=other)], env=environment(tmp_path),
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
