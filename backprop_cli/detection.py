"""What a script trains with, read from its text and that of the local modules it imports. Nothing of it is executed.

It serves the first line that the user sees. What is really attached is decided in the script's own process, by what it
imports and uses there.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backprop_cli.scripts import Kind

MOST_FILES = 200
MOST_BYTES = 2_000_000
ASK_S = 20.0
"""How long an interpreter is given to say whether backprop is installed in it."""

_MARKS = (
    ("lightning", ("lightning", "pytorch_lightning")),
    ("transformers", ("transformers",)),
    ("keras", ("keras", "tensorflow")),
    ("pytorch", ("torch",)),
)
_OURS = ("backprop", "backprop_lightning", "backprop_keras", "backprop_transformers")


@dataclass(frozen=True, slots=True)
class Detected:
    """What the text of a script tells.

    Attributes:
        framework: lightning, transformers, keras, pytorch, or None for none of them.
        because: the file and the module that say so, as `train.py imports torch`, or empty.
        uses_us: the script asks for a time box itself.
    """

    framework: str | None = None
    because: str = ""
    uses_us: bool = False


def detect(kind: Kind, command: Sequence[str], cwd: Path) -> Detected:
    """What a script imports, by itself and through modules beside it.

    Args:
        command: the script and its arguments. Of a program, such as torchrun, the first Python file among them.
    """
    start = script_file(kind, command, cwd)
    if start is None:
        return Detected()
    root = cwd if kind is Kind.MODULE else start.parent
    seen: dict[str, Path] = {}
    for path, module in _imports(start, root):
        seen.setdefault(module.partition(".")[0], path)
    uses_us = any(name in seen for name in _OURS)
    for framework, modules in _MARKS:
        for module in modules:
            if module in seen:
                shown = seen[module]
                name = shown.relative_to(root) if shown.is_relative_to(root) else shown
                return Detected(framework, f"{name} imports {module}", uses_us)
    return Detected(uses_us=uses_us)


def lacks_backprop(interpreter: str) -> bool:
    """Whether backprop cannot be imported by an interpreter that is not our own; asks it."""
    if interpreter == sys.executable:
        return False
    question = (
        "import sys, importlib.util as u; sys.exit(3 if u.find_spec('backprop_startup') is None else 0)"
    )
    try:
        answer = subprocess.run(
            [interpreter, "-c", question],
            capture_output=True,
            timeout=ASK_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 3


def described(kind: Kind, detected: Detected, asked: str, interpreter: str) -> str:
    """One line: what is attached, or why nothing is."""
    if asked == "none":
        return "framework none: the script is governed from outside."
    if kind is not Kind.PROGRAM and lacks_backprop(interpreter):
        return (
            f"{interpreter} has no backprop: the script is governed from outside. For checkpoints and an exact resume: "
            f"{interpreter} -m pip install backprop-timebox"
        )
    if detected.uses_us:
        return "the script opens a time box itself."
    if asked != "auto":
        return f"framework {asked}, as asked."
    if detected.framework is None:
        kinds = "PyTorch, Lightning, Keras or transformers"
        return f"framework unknown: governed from outside, unless a Python process of it trains with {kinds}."
    return f"framework {detected.framework} ({detected.because})."


def script_file(kind: Kind, command: Sequence[str], cwd: Path) -> Path | None:
    """The Python file that a script, a module, or a program such as torchrun begins with; None where it is not known."""
    if kind is Kind.PROGRAM:
        files = (cwd / word for word in command[1:] if word.endswith(".py"))
        return next((path for path in files if path.is_file()), None)
    script = command[0]
    if kind is Kind.SCRIPT:
        path = cwd / script
        return path / "__main__.py" if path.is_dir() else path
    return _module_file(script, cwd)


def _module_file(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__main__.py", base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imports(start: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """Every import of `start` and of the local modules behind it, with the file that it stands in."""
    queue, known = [start], {start}
    while queue and len(known) <= MOST_FILES:
        path = queue.pop(0)
        for module in _modules_in(path):
            local = _local(module, path, root)
            if local is None:
                yield path, module
            elif local not in known:
                known.add(local)
                queue.append(local)


def _local(module: str, path: Path, root: Path) -> Path | None:
    if module.startswith("."):
        level = len(module) - len(module.lstrip("."))
        package = path.parents[level - 1] if level <= len(path.parents) else root
        return _module_file(module.lstrip("."), package) if module.strip(".") else None
    parts = module.split(".")
    for count in range(len(parts), 0, -1):
        found = _module_file(".".join(parts[:count]), root)
        if found is not None:
            return found
    return None


def _modules_in(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MOST_BYTES:
            return []
        tree = ast.parse(path.read_bytes())
    except (
        OSError,
        SyntaxError,
        ValueError,
        RecursionError,
    ):  # the interpreter itself will say what is wrong
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found += [base] if node.module else [base + alias.name for alias in node.names]
    return found
