"""What a user sees who imports a callback in an environment that lacks its framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
try:
    __import__(sys.argv[1]).BackpropCallback
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "missing"),
    [
        ("keras", "keras"),
        ("transformers", "transformers"),
        ("transformers", "torch"),
        ("lightning", "lightning,pytorch_lightning"),
        ("lightning", "torch"),
    ],
)
def test_a_missing_framework_is_named_with_what_installs_it(package: str, missing: str) -> None:
    """Not Python's bare sentence: which package needs what, and the line to type."""
    shown = subprocess.run(
        [sys.executable, "-c", WITHOUT, f"backprop_{package}", missing],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    ).stdout
    assert shown.startswith(f"backprop_{package} needs ")
    assert f"'{missing.partition(',')[0]}' is not installed" in shown
    assert f"pip install 'backprop-timebox[{package}]'" in shown
