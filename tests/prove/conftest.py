from __future__ import annotations

from pathlib import Path

import pytest

from backprop_core.testing.pytest_prove import prove
from tests.backprop_cli.commandline import CommandLine

__all__ = ["prove"]


@pytest.fixture
def backprop(tmp_path: Path) -> CommandLine:
    """The command, with a folder and a home of its own."""
    return CommandLine(tmp_path)
