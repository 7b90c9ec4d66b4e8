"""A machine with CUDA, the command on it, and trainings that were cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from backprop_core.resources.probes.nvml import Nvml
from backprop_core.resources.samples import GpuSample
from tests.backprop_cli.commandline import CommandLine
from tests.gpu.kinds import KINDS
from tests.gpu.pieces import run_pieces


def pytest_runtestloop(session: pytest.Session) -> None:
    """Without a GPU these tests say so and end: a skipped one would look like a proof."""
    if not session.config.option.collectonly and not torch.cuda.is_available():
        raise pytest.UsageError(
            f"tests/gpu needs a GPU that PyTorch can use, and torch {torch.__version__} finds none. "
            "Name an interpreter that has one: make test-gpu GPU_PYTHON=/path/to/python"
        )


@pytest.fixture
def backprop(tmp_path: Path) -> CommandLine:
    """The command in a folder of its own, with the probe that a user gets."""
    command = CommandLine(tmp_path)
    command.environment["BACKPROP_GPU_PROBE"] = "nvml"
    command.environment["BACKPROP_GPU_MIN_VRAM"] = "500"
    return command


@pytest.fixture
def card() -> GpuSample:
    """The GPU that torch calls cuda:0, as NVML sees it."""
    probe = Nvml()
    reading = probe.read()
    probe.close()
    assert reading.gpus, reading.notes
    uuid = str(torch.cuda.get_device_properties(0).uuid)
    return next(gpu for gpu in reading.gpus if gpu.uuid.endswith(uuid))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every kind of training, whole, whole once more, and cut."""
    return run_pieces(list(KINDS), "cuda", tmp_path_factory.mktemp("trained"))
