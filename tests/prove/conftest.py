from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine


@pytest.fixture
def backprop(tmp_path: Path) -> CommandLine:
    """The command, with a folder and a home of its own."""
    return CommandLine(tmp_path)
