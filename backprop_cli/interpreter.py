"""Which interpreter runs the script: the one that was named, the active environment's, or backprop's own.

Where backprop stands in an environment of its own (pipx, `uv tool`), its interpreter has no framework, so the script gets
the one that a person would get who types `python`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from backprop_cli.paths import shortened
from backprop_core.errors import UsageError
from backprop_core.quick_dataclass import dataclass

_TOOL_MARKS = ("pipx_metadata.json", "uv-receipt.toml")
"""What pipx and `uv tool` leave in an environment that they make for one command."""
_FRAMEWORKS = (
    "torch",
    "keras",
    "tensorflow",
    "jax",
    "lightning",
    "pytorch_lightning",
    "transformers",
    "numpy",
)
_ACTIVE = ("VIRTUAL_ENV", "CONDA_PREFIX")
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The interpreter for a script.

    Attributes:
        path: absolute.
        source: what chose it where it is neither named by the user nor backprop's own, such as `VIRTUAL_ENV`; else empty.
    """

    path: str
    source: str = ""

    def sentence(self) -> str:
        """What the user is told of a choice that was made for him; nothing of any other."""
        if not self.source:
            return ""
        return (
            f"backprop is installed in its own environment, so the script runs with {self.path} (from {self.source}); "
            "--python chooses another."
        )


def find_interpreter(
    wanted: str | None, environ: Mapping[str, str] = os.environ, prefix: str = sys.prefix
) -> Interpreter:
    """The interpreter for a script.

    Args:
        wanted: a path or name that the user gave, or None.
        prefix: the environment in which backprop is installed.

    Raises:
        UsageError: there is no such interpreter.
    """
    if wanted is not None:
        found = shutil.which(wanted)
        if found is None:
            raise UsageError(
                f"There is no interpreter {shortened(wanted)}.",
                "Give --python the path of an executable one.",
            )
        return Interpreter(str(Path(found).absolute()))
    own = Interpreter(sys.executable)
    is_tool = any(Path(prefix, mark).is_file() for mark in _TOOL_MARKS)
    if not is_tool and _has_framework():
        return own
    for source, path, environment in _active(environ, on_path=is_tool):
        if Path(environment).resolve() == Path(prefix).resolve():
            return own
        if os.access(path, os.X_OK):
            return Interpreter(path, source)
    return own


def _active(environ: Mapping[str, str], *, on_path: bool) -> Iterator[tuple[str, str, str]]:
    """Where an active environment's interpreter would be: what says so, its path, and its environment."""
    for name in _ACTIVE:
        if environment := environ.get(name, ""):
            yield name, str(Path(environment, "bin", "python").absolute()), environment
    for name in ("python", "python3") if on_path else ():
        if found := shutil.which(name, path=environ.get("PATH")):
            path = Path(found).absolute()
            yield f"{name} on PATH", str(path), str(path.parent.parent)


def _has_framework() -> bool:
    return any(find_spec(name) is not None for name in _FRAMEWORKS)


def missing_module_hint(reason: str, interpreter: str) -> str:
    """What to do where a script failed because a module is not installed; empty for any other `reason`."""
    found = _MISSING.search(reason)
    if found is None:
        return ""
    name = found[1].partition(".")[0]
    return (
        f"{interpreter} has no module {name}. Install it there ({interpreter} -m pip install ...), or name the interpreter "
        "that has it: --python PATH"
    )
