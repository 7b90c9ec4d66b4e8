"""`backprop completion`."""

from __future__ import annotations

import subprocess

from tests.backprop_cli.commandline import CommandLine


def test_bash_takes_the_script_and_completes_a_command_with_it(backprop: CommandLine) -> None:
    """A real bash evaluates what is printed, and has a completion for `backprop` then."""
    script = backprop("completion", "bash").stdout
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\ncomplete -p backprop"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "_backprop_completion" in done.stdout


def test_a_shell_that_is_not_known_is_refused(backprop: CommandLine) -> None:
    """Another shell's name is a wrong usage that names those that are known."""
    done = backprop("completion", "csh")
    assert done.returncode == 2
    assert "bash" in done.stderr
