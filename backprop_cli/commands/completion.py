"""`backprop completion SHELL`: the script that completes commands, options, runs and files in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from backprop_core.errors import UsageError

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
def command(shell: str) -> int:
    """Print the completion script for SHELL.

    \b
    Examples:
      eval "$(backprop completion bash)"                     in ~/.bashrc
      eval "$(backprop completion zsh)"                      in ~/.zshrc, after compinit
      backprop completion fish > ~/.config/fish/completions/backprop.fish
    """
    from backprop_cli.app import cli

    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"This version of click has no completion for {shell}.", "Update click.")
    click.echo(made(cli, {}, "backprop", "_BACKPROP_COMPLETE").source())
    return 0
