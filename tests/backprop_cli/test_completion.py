"""`backprop completion`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.backprop_cli.commandline import CommandLine
from tests.programs import program


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


def test_fish_proposes_commands_options_values_and_runs(backprop: CommandLine) -> None:
    """A real fish sources what is printed, and proposes what fits at each place."""
    (backprop.folder / "b.fish").write_text(backprop("completion", "fish").stdout)
    backprop.script("pass")
    assert backprop("run", "train.py", "--run-id", "blue").returncode == 0
    (backprop.folder / "ckpts").mkdir()
    for line, words in (
        ("backprop chec", {"checkpoint", "checkpoints"}),
        ("backprop run --max-run", {"--max-run-minutes"}),
        ("backprop list --status tim", {"timeboxed"}),
        ("backprop resume b", {"blue"}),
        ("backprop verify b", {"blue"}),
        ("backprop verify ck", {"ckpts/"}),
    ):
        proposed = _fish(backprop, line)
        assert {word.split("\t")[0] for word in proposed} == words, line


def _fish(backprop: CommandLine, line: str) -> list[str]:
    done = subprocess.run(
        [program("fish"), "--no-config", "-c", f"source b.fish; complete -C '{line}'"],
        cwd=backprop.folder,
        env=backprop.environment | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_zsh_proposes_values(backprop: CommandLine) -> None:
    """A real zsh on a terminal of its own evaluates what is printed, and Tab shows what an option takes."""
    typed = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'autoload -U compinit; compinit -u -D; eval "$(backprop completion zsh)"; echo RE""ADY'
zpty -r z ready '*READY*'
zpty -w -n z $'backprop list --status \t\t'
zpty -r z proposed '*lost*' && print -r -- $proposed
zpty -d z
"""
    done = subprocess.run(
        [program("zsh"), "-f", "-c", typed],
        cwd=backprop.folder,
        env=backprop.environment
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TERM": "xterm"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "timeboxed" in done.stdout


def test_a_shell_that_is_not_known_is_refused(backprop: CommandLine) -> None:
    """Another shell's name is a wrong usage that names those that are known."""
    done = backprop("completion", "csh")
    assert done.returncode == 2
    assert "bash" in done.stderr
