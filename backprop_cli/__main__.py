"""The `backprop` command, with every error as one sentence on standard error and an exit status."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Callable, Sequence

import click

try:
    from backprop_core import contract
    from backprop_core.errors import BackpropError, StoreError, UsageError
except ImportError as unsupported:  # such as a system without file locks: its sentence, without a traceback
    sys.exit(str(unsupported))

EXIT_USAGE = 2
EXIT_TROUBLE = 1
EXIT_NO_RESOURCES = 75
EXIT_INTERRUPTED = 130
_LONGEST_WORD = 400
"""Characters: a path may be long, and is to be copied."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    from backprop_cli.app import cli

    gc.set_threshold(
        100_000
    )  # commands are short or allocate little: looking for garbage is what would cost time
    _open_standard_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in own:
        return _for_programs(cli, arguments)
    return _run(cli, arguments)


def _for_programs(cli: click.Command, arguments: list[str]) -> int:
    """With --json what goes wrong is one object as well, on standard output."""
    told: list[str] = []
    status = _run(cli, arguments, told)
    if told:
        import json

        click.echo(json.dumps({"outcome": None, "why": " ".join(told), "exit_status": status}))
    return status


def _run(cli: click.Command, arguments: list[str], told: list[str] | None = None) -> int:
    """Run the command; each error becomes a sentence on standard error, and in `told`, and an exit status."""

    def tell(text: str) -> None:
        text = _clipped(text)
        shown = "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in text.splitlines())
        click.echo(f"backprop: {shown}", err=True)
        if told is not None:
            told.append(text)

    try:
        status = cli.main(args=arguments, prog_name="backprop", standalone_mode=False)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(file=shown)
        click.echo(_clipped(shown.getvalue()), err=True, nl=False)
        if told is not None:
            told.append(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        tell("Interrupted.")
        return EXIT_INTERRUPTED
    except BackpropError as error:
        tell(str(error))
        return _status_of(error)
    except BrokenPipeError:  # `backprop list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_TROUBLE
    except Exception as error:
        return _own_fault(error, arguments, tell)
    return status if isinstance(status, int) else 0


def _clipped(text: str) -> str:
    """A message in which no word fills the screen: a file's content that was pasted as a value, for example."""
    words = (word if len(word) <= _LONGEST_WORD else f"{word[:80]}..." for word in text.split(" "))
    return " ".join(words)


def _own_fault(error: Exception, arguments: Sequence[str], tell: Callable[[str], None]) -> int:
    """What no command expects: a path that was typed and cannot be used, or our own fault; with --verbose it goes on."""
    from backprop_cli.paths import unusable

    if "--verbose" in arguments:
        raise error
    sentence = unusable(error, arguments) if isinstance(error, OSError) else None
    if sentence is not None:
        tell(sentence)
        return EXIT_USAGE
    tell(f"Something is wrong in backprop itself: {type(error).__name__}: {error}. --verbose shows where.")
    return EXIT_TROUBLE


def _open_standard_streams() -> None:
    """Fill 0, 1 and 2 where they are closed: else a pipe of ours would get that number and pass for the script's stdin."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    if sys.stdout is None:  # Python makes none for a descriptor that was closed
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # a name of any bytes, or a degree sign in ASCII, ends no command
        sys.stdout.reconfigure(errors="backslashreplace")


def _status_of(error: BackpropError) -> int:
    if isinstance(error, UsageError) or _is_home(error):
        return EXIT_USAGE
    return EXIT_NO_RESOURCES if type(error).__name__ == "NotAdmittedError" else EXIT_TROUBLE


def _is_home(error: BackpropError) -> bool:
    """A home folder that cannot be used is a wrong setting, not a failure."""
    return isinstance(error, StoreError) and contract.HOME in error.hint


if __name__ == "__main__":
    sys.exit(main())
