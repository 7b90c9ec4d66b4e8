"""The group of all commands; each is imported only when it is used."""

from __future__ import annotations

from importlib import import_module

import click

from backprop_cli.paths import given
from backprop_core import __version__

COMMANDS = {
    "run": "Run a training script inside a time box.",
    "resume": "Continue a run from its newest checkpoint.",
    "prove": "Prove that interrupting a script changes no bit.",
    "list": "Show all runs (also: ls).",
    "status": "Show the machine's resources, or one run's history.",
    "report": "Write a report of a run on one HTML page.",
    "diff": "Compare two runs.",
    "tag": "Add, remove or show the tags of a run.",
    "note": "Add a note to a run, or show its notes.",
    "logs": "Show a run's output.",
    "stop": "Stop a run; it saves a checkpoint first.",
    "pause": "Pause a run; its time box waits.",
    "continue": "Continue a paused run.",
    "checkpoint": "Save a checkpoint now.",
    "extend": "Give a run more time.",
    "checkpoints": "Show the checkpoints of a run.",
    "verify": "Verify the checkpoints, byte by byte.",
    "export": "Write plain model.safetensors and .pt files.",
    "prune": "Remove old runs, or older checkpoints.",
    "config": "Show every setting and its source.",
    "doctor": "Check the installation, the settings and the machine.",
    "docs": "Show the documentation.",
    "completion": "Print the completion script for a shell.",
}
"""What each command does. It stands here, so that `--help` imports none of them.

A command is the `command` of its module in `backprop_cli.commands`.
"""
ALIASES = {"ls": "list"}
_MODULES = {"continue": "continue_"}
"""Where a module cannot have its command's name."""


class LazyGroup(click.Group):
    """A group that imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module = import_module(f"backprop_cli.commands.{_MODULES.get(name, name)}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if not word.startswith("-") and word not in COMMANDS and word not in ALIASES:
            raise click.UsageError(f"There is no command {word!r}. {_meant(word, args)}", ctx=ctx)
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, [*_handed_on(ctx, command), *rest]


def _meant(word: str, args: list[str]) -> str:
    """What the user may have meant instead of the command `word`, in a sentence."""
    import difflib
    import shlex
    from pathlib import Path

    if word.endswith(".py") or Path(word).is_file():
        return f"To run a script: backprop run {shlex.join(args)}"
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Commands: {', '.join(COMMANDS)}."


def _handed_on(ctx: click.Context, command: click.Command | None) -> list[str]:
    """The options that stood before the command, as words for it; a later one of its own holds over them.

    Raises:
        click.UsageError: the command has no such option, and to pass over it would surprise.
    """
    words: list[str] = []
    known = (
        {flag for parameter in command.params for flag in parameter.opts} if command is not None else set()
    )
    for name, value in ctx.params.items():
        flag = f"--{name.replace('_', '-')}"
        if not value:
            continue
        if flag in known:
            words += [flag] if value is True else [flag, value]
        elif name in ("dry_run", "json") and command is not None:
            raise click.UsageError(f"'backprop {command.name}' has no {flag}; nothing was done.", ctx=ctx)
    return words


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with:  backprop run train.py --name my-first-run",
)
@click.version_option(__version__, prog_name="backprop")
@click.option(
    "--config", callback=given, metavar="PATH", help="Configuration file [default: the nearest one]."
)
@click.option("--verbose", is_flag=True, help="Show every setting, and a traceback if backprop itself fails.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, without doing it.")
@click.option("--json", is_flag=True, help="Print JSON instead of a table.")
def cli(**options: object) -> None:
    """Give a training run a time budget: it stops in time with a checkpoint, and resumes exactly where it stopped."""
