"""The options that commands share, and what was said on the command line as raw values by option name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from backprop_cli.paths import given
from backprop_core.config.options import (
    FRAMEWORKS,
    OPTIONS,
    PROBES,
    PROCESS,
    TRAINING,
    Option,
    integer,
    minutes,
)
from backprop_core.deadline.budget import parse_duration
from backprop_core.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from backprop_cli.chain import Chain

Command = TypeVar("Command", bound=Callable[..., Any])
Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem] | list[str]"]


def complete_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Whatever files the shell finds."""
    from click.shell_completion import CompletionItem  # late: only a shell that completes needs it

    return [CompletionItem(incomplete, type="file")]


class WholeNumber(click.IntRange):
    """An integer, called what people call it."""

    name = "whole number"


def _words(*words: str) -> Complete:
    return lambda ctx, param, incomplete: [word for word in words if word.startswith(incomplete)]


_PROPOSALS: Mapping[str, Complete] = {
    "framework": _words(*FRAMEWORKS),
    "gpu-probe": _words(*PROBES),
    "budget-from": _words(PROCESS, TRAINING),
    "python": complete_files,
}


def config_options(command: Command) -> Command:
    """Add every option that may also stand in a configuration file. Values arrive unchecked, as text."""
    command = click.option(
        "--no-rewrite",
        "rewrite",
        flag_value="none",
        help="Run the script as it is, without counting its loops.",
    )(command)
    for option in reversed(OPTIONS):
        command = _switch(option)(command) if not option.metavar else _valued(option)(command)
    return command


def _switch(option: Option) -> Callable[[Command], Command]:
    default = "" if option.default is False else "  [default: yes]"
    flags = f"--{option.name}/--no-{option.name}"
    return click.option(flags, option.name.replace("-", "_"), default=None, help=option.help + default)


def _valued(option: Option) -> Callable[[Command], Command]:
    default = "" if option.default in (None, []) else f"  [default: {_plain(option.default)}]"
    return click.option(
        *([option.short] if option.short else []),
        f"--{option.name}",
        default=None,
        multiple=option.repeatable,
        metavar=option.metavar,
        help=option.help + default,
        shell_complete=_PROPOSALS.get(option.name),
    )


def common_options(command: Command) -> Command:
    """Add --config, --verbose and --dry-run."""
    command = click.option("--dry-run", is_flag=True, help="Show what would be done, without doing it.")(
        command
    )
    command = click.option("--verbose", is_flag=True, help="Also show every setting and its source.")(command)
    return click.option(
        "--config",
        callback=given,
        metavar="PATH",
        default=None,
        help="Configuration file [default: the nearest one].",
        shell_complete=complete_files,
    )(command)


def result_options(command: Command) -> Command:
    """Add --json and --json-to."""
    command = click.option(
        "--json-to",
        callback=given,
        metavar="PATH",
        help="Write the --json object to this file, pipe or /dev/fd/N, and leave standard output to SCRIPT.",
        shell_complete=complete_files,
    )(command)
    return json_option(command)


def json_option(command: Command) -> Command:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")(command)


def chain_options(command: Command) -> Command:
    """Add --until-done, --total, --rest, --deaths and --requeue."""
    command = click.option(
        "--requeue",
        is_flag=True,
        help="In a SLURM job: train until the job ends, requeue it and continue, until the script completes.",
    )(command)
    command = click.option(
        "--deaths",
        metavar="N",
        help="How many sudden deaths in a row (out of memory, segmentation fault) a chain survives.  [default: 1]",
    )(command)
    command = click.option("--rest", metavar="MINUTES", help="Minutes to rest between two boxes.")(command)
    command = click.option(
        "--total",
        metavar="DURATION",
        help='Time for all boxes together, such as "8h"; the last one is shortened to fit.',
    )(command)
    return click.option("--until-done", is_flag=True, help="Run box after box until the script completes.")(
        command
    )


def chain_plan(parameters: Mapping[str, Any]) -> Chain:
    """How boxes are to follow one another. UsageError for what cannot be meant."""
    from backprop_cli.chain import Chain
    from backprop_cli.requeue import SlurmJob

    if not (parameters["until_done"] or parameters["requeue"]) and (
        parameters["total"] or parameters["rest"] or parameters["deaths"]
    ):
        raise UsageError(
            "--total, --rest and --deaths need --until-done.",
            "Add it, or leave them out.",
        )
    total, rest = parameters["total"], parameters["rest"]
    try:
        rest_s = 0.0 if rest is None else minutes(above=False)(rest) * 60.0
    except ValueError as error:
        raise UsageError(
            f"--rest is {rest}.",
            'It must be a number of minutes, 0 or more, or a duration such as "90s", at most a year.',
        ) from error
    total_s = None if total is None else parse_duration(total, "--total")
    try:
        deaths = 1 if parameters["deaths"] is None else integer(0, 1_000_000)(parameters["deaths"])
    except ValueError as error:
        raise UsageError(
            f"--deaths is {parameters['deaths']}.", "It must be a whole number from 0 to 1000000."
        ) from error
    job = SlurmJob.of_process() if parameters["requeue"] else None
    return Chain(parameters["until_done"] or job is not None, total_s, rest_s, job, deaths)


def raw_settings(parameters: dict[str, Any]) -> dict[str, Any]:
    """The configuration options among a command's parameters, by option name; takes them out of
    `parameters`.
    """
    raw = {option.name: parameters.pop(option.name.replace("-", "_"), None) for option in OPTIONS}
    return {name: None if value == () else value for name, value in raw.items()}


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Ids of runs that begin so, newest first, for the shell's completion; nothing where they cannot be read."""
    from backprop_cli.opening import open_store
    from backprop_core.errors import BackpropError

    try:
        return [row.id for row in open_store(write=False).list_rows() if row.id.startswith(incomplete)]
    except BackpropError:
        return []


def complete_runs_and_folders(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The same, and after them what the shell itself proposes for a folder."""
    from click.shell_completion import CompletionItem

    runs = [CompletionItem(run) for run in complete_runs(ctx, param, incomplete)]
    return [*runs, CompletionItem(incomplete, type="dir")]


def working_folder() -> Path:
    """The current folder as an absolute path, as the shell names it where that is true."""
    named = os.environ.get("PWD", "")
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise UsageError("The current folder no longer exists.", "Change to another folder.") from None
    if named.startswith("/") and Path(named).is_dir() and Path(named).samefile(here):
        return Path(named)
    return here


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
