"""The options that commands share, and what was said on the command line as raw values by option name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from backprop_core.options import BY_NAME

Command = TypeVar("Command", bound=Callable[..., Any])

_SHORT = {
    "max-run-minutes": "-m",
    "framework": "-f",
    "checkpoint-every-minutes": "-c",
    "gpu-memory-limit": "-g",
    "max-parallel": "-p",
}
_METAVARS = {
    "max-run-minutes": "MINUTES",
    "framework": "NAME",
    "checkpoint-every-minutes": "MINUTES",
    "gpu-memory-limit": "LIMIT",
    "max-parallel": "COUNT",
    "min-free-ram": "GB",
    "gpu-probe": "NAME",
    "gpu-min-vram": "MB",
    "gpu-max-temp": "CELSIUS",
    "wait-minutes": "MINUTES",
    "grace": "SECONDS",
    "python": "PROGRAM",
    "timeboxed-exit-code": "N",
    "resume-flag": "FLAG",
    "checkpoint-glob": "GLOB",
}


def config_options(command: Command) -> Command:
    """Add every option that may also stand in a configuration file. Values arrive unchecked, as text."""
    command = click.option(
        "--wait/--no-wait", "wait", default=None, help="Wait for resources (the default), or refuse at once."
    )(command)
    for name in reversed(_METAVARS):
        option = BY_NAME[name]
        flags = [_SHORT[name]] if name in _SHORT else []
        default = "" if option.default is None else f"  [default: {_plain(option.default)}]"
        decorate = click.option(
            *flags, f"--{name}", default=None, metavar=_METAVARS[name], help=option.help + default
        )
        command = decorate(command)
    return command


def common_options(command: Command) -> Command:
    """Add --config, --verbose and --dry-run."""
    command = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")(command)
    command = click.option("--verbose", is_flag=True, help="Also show every setting and where it came from.")(
        command
    )
    return click.option(
        "--config",
        metavar="PATH",
        default=None,
        help="Configuration file to use instead of the one that is found.",
    )(command)


def raw_settings(parameters: dict[str, Any]) -> dict[str, Any]:
    """The configuration options among a command's parameters, by option name; takes them out of
    `parameters`.
    """
    names = [*_METAVARS, "wait"]
    return {name: parameters.pop(name.replace("-", "_"), None) for name in names}


def working_folder() -> Path:
    """The current folder as an absolute path, as the shell names it where that is true."""
    named = os.environ.get("PWD", "")
    here = Path.cwd()
    if named.startswith("/") and Path(named).is_dir() and Path(named).samefile(here):
        return Path(named)
    return here


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
