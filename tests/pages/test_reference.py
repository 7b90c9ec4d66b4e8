"""What is made from the code is as new as the code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import backprop
from backprop_cli.app import COMMANDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    """The hook of the site, which is in no package."""
    file = ROOT / "docs" / "reference" / "generated.py"
    spec = importlib.util.spec_from_file_location("generated", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["generated"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_man_page_is_that_of_these_commands(generated: ModuleType) -> None:
    """The man page that is installed has the commands, options and words of the command line."""
    written = (ROOT / "docs" / "man" / "backprop.1").read_text()
    assert written == generated.man_page(), "the words have changed: run `make messages` and commit docs/man"


def test_every_command_and_option_is_in_the_reference(generated: ModuleType) -> None:
    """No command is left out, and no option of `run`."""
    page = generated.commands_page()
    assert all(f"## `backprop {name}`" in page for name in COMMANDS)
    assert "`-m, --max-run-minutes MINUTES`" in page


def test_every_public_name_is_in_the_reference(generated: ModuleType) -> None:
    """What `from backprop import …` finds has its docstring on the page, callbacks included."""
    page = generated.python_page()
    assert not [
        name for name in backprop.__all__ if f"### `backprop.{name}" not in page and name != "__version__"
    ]
    assert page.count(".BackpropCallback(") == 3
    assert all(
        f"#### `{name}`" in page for name in ("outcome", "checkpoint", "remaining", "progress", "run_id")
    )
    assert "run_training" not in page
