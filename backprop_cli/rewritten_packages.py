"""The packages of `--rewrite`: whether the script's interpreter has them, asked before anything is started."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from backprop_cli.detection import ASK_S, script_file
from backprop_cli.scripts import ScriptKind
from backprop_core.config.sources import Settings
from backprop_core.errors import UsageError
from backprop_core.session.attach_rules import COUNTS_LOOPS
from backprop_startup.local_code import NEVER_LOCAL

_QUESTION = """
import sys
from importlib.util import find_spec
sys.path[:0] = sys.argv[1:3]
def there(name):
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return True
print("missing:", *[name for name in sys.argv[3].split(",") if not there(name)])
"""
_LONGEST_LINE = 512


def check_rewritten(
    settings: Settings, kind: ScriptKind, command: Sequence[str], interpreter: str | None, cwd: Path
) -> None:
    """Raise UsageError for a package of `--rewrite` whose loops could not be counted: nothing else would tell of it.

    Args:
        command: the script and its arguments.
        interpreter: the script's. Of a program such as torchrun, the one that its first line names is asked.
    """
    names, option = settings["rewrite"], settings.by_name["rewrite"].origin
    if names in (None, "none"):
        return
    if option == "--rewrite" and settings["framework"] not in COUNTS_LOOPS:
        raise UsageError(
            f"--rewrite has no effect with --framework {settings['framework']}.", "Leave one of them out."
        )
    if never := [name for name in names.split(",") if name in NEVER_LOCAL]:
        raise UsageError(
            f"{option}: the loops of {never[0]} cannot be counted.",
            "Leave it out: backprop knows what it can of this package without the option.",
        )
    if kind is ScriptKind.PROGRAM:
        interpreter = _interpreter_of(command[0], cwd)
    if interpreter is None:
        return
    script = script_file(kind, command, cwd)
    missing = _missing(interpreter, names, [str(cwd), str(cwd if script is None else script.parent)], cwd)
    if missing:
        raise UsageError(
            f"{option}: {interpreter} finds no package {missing[0]}.",
            "Give the name that the script imports. If the script adds its folder to sys.path, name that folder in "
            "PYTHONPATH.",
        )


def _missing(interpreter: str, names: str, folders: Sequence[str], cwd: Path) -> list[str]:
    """Those of `names` that an interpreter does not find; none where it does not answer."""
    try:
        answer = subprocess.run(
            [interpreter, "-c", _QUESTION, *folders, names],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in answer.stdout.splitlines() if line.startswith("missing:")]
    return lines[-1].split()[1:] if answer.returncode == 0 and lines else []


def _interpreter_of(program: str, cwd: Path) -> str | None:
    """The Python that runs a program: itself, or what its first line names; None for any other program."""
    found = shutil.which(program) or shutil.which(str(cwd / program))
    if found is None:
        return None
    if Path(found).name.startswith("python"):
        return found
    try:
        with Path(found).open("rb") as file:
            first = file.readline(_LONGEST_LINE)
    except OSError:
        return None
    words = first[2:].decode("utf-8", "replace").split() if first.startswith(b"#!") else []
    if words and Path(words[0]).name == "env":
        words = [shutil.which(words[-1]) or ""]
    return words[0] if words and Path(words[0]).name.startswith("python") else None
