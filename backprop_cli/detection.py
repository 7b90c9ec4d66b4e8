"""What a script seems to train with, read from its text and that of the local modules it imports. Nothing is executed.

It serves the first line that the user sees, which says no more than what was read. What is really attached is decided in the
script's own process, by what it imports and uses there, and the session's opening line says it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

from backprop_cli.scripts import ScriptKind
from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.boxes import PACKAGE, BoxUse, box_use
from backprop_core.script_state.path_edits import folders_put_on_path

KINDS = "PyTorch, Lightning, Keras or transformers"
SAVE_ITSELF = (
    "Put its loop into a 'with backprop.timebox():' block. If it saves files itself, name them and the flag with which it "
    "resumes: --checkpoint-glob 'out/*.pt' --resume-flag FLAG."
)
"""What to do for a script that backprop cannot attach to."""
MOST_FILES = 200
MOST_BYTES = 2_000_000
ASK_S = 20.0
"""How long an interpreter is given to say whether backprop is installed in it."""

_MARKS = (
    ("lightning", ("lightning", "pytorch_lightning")),
    ("transformers", ("transformers", "trl")),
    ("keras", ("keras", "tensorflow")),
    ("fastai", ("fastai",)),
    ("pytorch", ("torch", "accelerate", "transformers", "lightning")),
)
"""The most specific first. Lightning and transformers count where their trainers are used, see `_TRAINERS`."""
_TRAINERS = {
    "lightning": lambda name: name in ("Trainer", "LightningCLI"),
    "transformers": lambda name: name.endswith("Trainer"),
}
_OURS = ("backprop", "backprop_lightning", "backprop_keras", "backprop_transformers")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Detected:
    """What the text of a script tells.

    Attributes:
        framework: lightning, transformers, keras, pytorch, fastai, or None for none of them.
        because: the file and the module that say so, as `train.py imports torch`, or empty.
        uses_us: the script imports backprop.
        unread: what the command begins with, where that is no Python file of the script's own: nothing is known of it.
    """

    framework: str | None = None
    because: str = ""
    uses_us: bool = False
    unread: str = ""


@dataclass(slots=True)
class _Text:
    """What was read: the top-level packages that are imported with the first file that does, and all names that are used."""

    at_start: dict[str, Path] = field(default_factory=dict)
    in_functions: dict[str, Path] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    folders: list[Path] = field(default_factory=list)
    """What the files put on `sys.path`."""


def detect(kind: ScriptKind, command: Sequence[str], cwd: Path) -> Detected:
    """What a script imports, by itself and through modules beside it.

    An import inside a function may never be run (nanoGPT's model.py imports transformers in one that loads weights), so it
    counts only where nothing is imported outside of functions.

    Args:
        command: the script and its arguments. Of a program, such as torchrun, the first Python file among them.
    """
    start = script_file(kind, command, cwd)
    if start is None:
        return Detected(unread=command[0])
    root = cwd if kind is ScriptKind.MODULE else start.parent
    text = _read(start, root)
    uses_us = any(name in text.at_start for name in _OURS)
    for seen in (text.at_start, text.in_functions):
        for framework, modules in _MARKS:
            trains = _TRAINERS.get(framework)
            if trains is not None and not any(map(trains, text.names)):
                continue
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


def described(kind: ScriptKind, detected: Detected, asked: str, interpreter: str) -> str:
    """One line: what is attached, or why nothing is."""
    if asked == "none":
        return "framework none: the script is governed from outside."
    if kind is not ScriptKind.PROGRAM and lacks_backprop(interpreter):
        return (
            f"{interpreter} has no backprop: the script is only governed from outside. For checkpoints and an exact resume: "
            f"{interpreter} -m pip install backprop-timebox"
        )
    if detected.uses_us:
        return "the script imports backprop, so it has its own time box."
    return f"framework {asked}, as requested." if asked != "auto" else _expected(detected)


def _expected(detected: Detected) -> str:
    if detected.framework == "fastai":
        return (
            f"{detected.because}, which has its own optimizers and loaders: backprop cannot save such a training from "
            f"outside. {SAVE_ITSELF}"
        )
    if detected.unread:
        return f"{detected.unread} was not read; backprop attaches when training begins."
    if detected.framework is None:
        return "no framework found; backprop attaches if a loop trains. Otherwise the script is only stopped in time."
    return f"{detected.framework} expected ({detected.because}); backprop attaches when training begins."


def script_file(kind: ScriptKind, command: Sequence[str], cwd: Path) -> Path | None:
    """The Python file that a script, a module, or a program such as torchrun begins with; None where it is not known."""
    if kind is ScriptKind.PROGRAM:
        files = (cwd / word for word in command[1:] if word.endswith(".py"))
        return next((path for path in files if path.is_file()), None)
    script = command[0]
    if kind is ScriptKind.SCRIPT:
        path = cwd / script
        return path / "__main__.py" if path.is_dir() else path
    return _module_file(script, cwd)


def _module_file(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__main__.py", base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _read(start: Path, root: Path) -> _Text:
    """`start` and the local modules behind it. What a function imports from beside the script is read as well."""
    text = _Text()
    queue, known = [(start, True)], {start}
    while queue and len(known) <= MOST_FILES:
        path, outside = queue.pop(0)
        for module, outside_here in _modules_in(path, text):
            local = _local(module, path, [root, *text.folders])
            at_start = outside and outside_here
            if local is None:
                where = text.at_start if at_start else text.in_functions
                where.setdefault(module.partition(".")[0], path)
            elif local not in known:
                known.add(local)
                queue.append((local, at_start))
    return text


def _local(module: str, path: Path, roots: Sequence[Path]) -> Path | None:
    if module.startswith("."):
        level = len(module) - len(module.lstrip("."))
        package = path.parents[level - 1] if level <= len(path.parents) else roots[0]
        return _module_file(module.lstrip("."), package) if module.strip(".") else None
    parts = module.split(".")
    for root in roots:
        for count in range(len(parts), 0, -1):
            found = _module_file(".".join(parts[:count]), root)
            if found is not None:
                return found
    return None


def _modules_in(path: Path, text: _Text) -> list[tuple[str, bool]]:
    """The modules that a file imports, each with whether outside of functions; adds to `text` what it uses besides."""
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
    text.folders += map(Path, folders_put_on_path(tree, str(path)))
    queue: list[tuple[ast.AST, bool]] = [(tree, True)]
    for node, outside in queue:
        if isinstance(node, ast.Import):
            found += [(alias.name, outside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found += [(base if node.module else base + alias.name, outside) for alias in node.names]
            text.names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute):
            text.names.add(node.attr)
        inner = outside and not isinstance(node, _FUNCTIONS)
        queue += [(child, inner) for child in ast.iter_child_nodes(node)]
    if box_use(tree) is BoxUse.SURROUNDS:  # the loops in such a box are followed as if it were not there
        return [(module, outside) for module, outside in found if module != PACKAGE]
    return found
