"""The command in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine


@pytest.fixture
def backprop(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)
