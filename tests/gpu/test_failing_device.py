"""After an error on the device nothing can be read from it any more: what was copied before it is a checkpoint."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from backprop_core.checkpoints import CheckpointStore, NumpyTranslator
from backprop_core.clock import SYSTEM
from backprop_torch.translator import TorchTranslator
from tests.backprop_cli.commandline import CommandLine

SCRIPT = Path(__file__).parent / "failing_device.py"
AT = 300


@pytest.mark.parametrize("how", ["illegal", "assert"])
def test_a_device_error_leaves_the_last_steps(backprop: CommandLine, how: str) -> None:
    """An illegal memory access and a device-side assertion: a whole checkpoint of one moment, with reason `survivor`."""
    shutil.copy(SCRIPT, backprop.folder / SCRIPT.name)
    done = backprop("run", SCRIPT.name, "-m", "10", "--run-id", how, "--", "cuda", how, str(AT))
    assert done.returncode not in (0, 124, 75), done.stderr
    assert "CUDA error" in done.stderr
    assert int(re.findall(r"^step (\d+)\s*$", done.stdout, re.MULTILINE)[-1]) == AT
    store = CheckpointStore(backprop.home / "runs" / how / "checkpoints", clock=SYSTEM)
    info = store.list()[0]
    assert info.facts.reason.value == "survivor"
    assert 3 <= info.step <= AT
    state = store.load(info, (TorchTranslator(), NumpyTranslator())).states["model"]
    assert isinstance(state, dict)
    for tensor in state.values():
        assert isinstance(tensor, torch.Tensor)
        assert bool((tensor == info.step).all()), f"a copy that mixes steps: step {info.step}"


def test_a_resume_goes_on_from_it(backprop: CommandLine) -> None:
    """A new process has a device that works, and the steps that were copied."""
    shutil.copy(SCRIPT, backprop.folder / SCRIPT.name)
    backprop("run", SCRIPT.name, "-m", "10", "--run-id", "dies", "--", "cuda", "illegal", str(AT))
    resumed = backprop("resume", "dies", "-m", "10")  # and fails where it failed before
    assert re.search(r"resumed from step \d+", resumed.stderr), resumed.stderr
