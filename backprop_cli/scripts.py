"""The script and its interpreter: found, checked, and put together into an argv."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import click

from backprop_cli.paths import shortened
from backprop_core.errors import UsageError


class ScriptKind(StrEnum):
    """What SCRIPT is."""

    SCRIPT = "script"
    MODULE = "module"
    PROGRAM = "program"


class ScriptCommand(click.Command):
    """A command whose trailing arguments belong to the script."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, _waits(args))
        except click.NoSuchOption as error:
            if "--" in args:
                raise
            hint = f"If it is meant for the script, put it after --: backprop {ctx.info_name} train.py -- --lr 0.1"
            if ctx.info_name == "resume":
                hint = "The script gets the arguments that it was started with."
            raise click.UsageError(f"{error.format_message()} {hint}", ctx=ctx) from error


def _waits(args: Sequence[str]) -> list[str]:
    """`--wait=5` as the two options that it stands for; what follows `--` is left alone."""
    own = list(args)
    rest: list[str] = []
    if "--" in own:
        cut = own.index("--")
        own, rest = own[:cut], own[cut:]
    spread = []
    for word in own:
        spread += ["--wait", "--wait-minutes", word[7:]] if word.startswith("--wait=") else [word]
    return spread + rest


def argv_of(kind: ScriptKind, interpreter: str, command: Sequence[str]) -> list[str]:
    """The whole command of a script, a module (`python -m`) or a program of any kind."""
    if kind is ScriptKind.PROGRAM:
        return list(command)
    return [interpreter, *(["-m"] if kind is ScriptKind.MODULE else []), *command]


def check_script(kind: ScriptKind, script: str, cwd: Path) -> None:
    """Raise UsageError unless `script` can be started from `cwd`. A module is left to the interpreter to
    find.
    """
    if not script.strip():
        raise UsageError("SCRIPT is empty.", "Name a script: backprop run train.py")
    if kind is ScriptKind.MODULE:
        if not all(part.isidentifier() for part in script.split(".")):
            raise UsageError(f"{script!r} is not a module name.", "Write it with dots: package.train")
        return
    if kind is ScriptKind.PROGRAM:
        if shutil.which(script, path=None if "/" not in script else str(cwd)) is None and not _is_file(
            cwd, script
        ):
            raise UsageError(f"There is no executable program {script}.", "Check its path.")
        return
    trouble = _trouble(cwd / script)
    if trouble:
        raise UsageError(f"The script {shortened(script)} {trouble} (in {cwd}).", "Check its path.")
    if script.lower().endswith(".ipynb"):
        raise UsageError(
            f"{script} is a notebook, which Python cannot run.",
            "In the notebook, use '%load_ext backprop' and '%%timebox 20m'. To run or prove it as a script: "
            f"jupyter nbconvert --to script {script}",
        )


def _trouble(path: Path) -> str:
    try:
        if path.is_file() or (path / "__main__.py").is_file():
            return "" if os.access(path, os.R_OK) else "cannot be read (Permission denied)"
        if path.is_dir():
            return "is a folder without __main__.py"
        return "is not a file" if path.exists() or path.is_symlink() else "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def _is_file(cwd: Path, script: str) -> bool:
    return not _trouble(cwd / script) and shutil.which(str(cwd / script)) is not None
