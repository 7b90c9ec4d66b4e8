"""Every option of `backprop run` with a good and a bad value."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.backprop_cli.commandline import CommandLine


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.py"], "nothing.py does not exist"),
        (["train.ipynb"], "jupyter nbconvert --to script train.ipynb"),
        (["train.py", "-m", "0"], "max-run-minutes"),
        (["train.py", "-m", "-3"], "max-run-minutes"),
        (["train.py", "-m", "abc"], "max-run-minutes"),
        (["train.py", "-m", "nan"], "max-run-minutes"),
        (["train.py", "-m", "5 parsecs"], "90s"),
        (["train.py", "-m", "0s"], "max-run-minutes"),
        (["train.py", "-c", "0"], "checkpoint-every-minutes"),
        (["train.py", "-c", "9x"], "checkpoint-every-minutes"),
        (["train.py", "--grace", "-2m"], "grace"),
        (["train.py", "--until-done", "--rest", "soon"], "--rest"),
        (["train.py", "--grace", "-1"], "grace"),
        (["train.py", "-f", "mxnet"], "framework"),
        (["train.py", "-g", "120%"], "gpu-memory-limit"),
        (["train.py", "-p", "0"], "max-parallel"),
        (["train.py", "--min-free-ram", "much"], "min-free-ram"),
        (["train.py", "--max-load", "0"], "max-load"),
        (["train.py", "--gpu-probe", "guess"], "gpu-probe"),
        (["train.py", "--gpu-min-vram", "-1"], "gpu-min-vram"),
        (["train.py", "--gpu-max-temp", "400"], "gpu-max-temp"),
        (["train.py", "--timeboxed-exit-code", "256"], "timeboxed-exit-code"),
        (["train.py", "--resume-flag", " "], "resume-flag"),
        (["train.py", "--checkpoint-glob", ""], "checkpoint-glob"),
        (["train.py", "--wait=soon"], "wait-minutes"),
        (["train.py", "--rewrite", "clck"], "finds no package clck"),
        (["--module", "train", "--rewrite", "click,clck"], "finds no package clck"),
        (["--exec", sys.executable, "--rewrite", "clck"], "finds no package clck"),
        (["train.py", "--rewrite", "torch"], "the loops of torch cannot be counted"),
        (["train.py", "--rewrite", "click", "-f", "none"], "--rewrite has no effect with --framework none"),
        (["train.py", "-r", "nowhere.ckpt"], "nowhere.ckpt"),
        (["train.py", "-r", "train.py"], "--resume-flag"),
        (["train.py", "-r", "."], "nor a folder of checkpoints"),
        (["train.py", "--resume-or-start"], "--run-id"),
        (["train.py", "--resume-or-start", "--run-id", "../x"], "../x"),
        (["train.py", "--run-id", "../x"], "../x"),
        (["train.py", "--run-id", ""], "run id"),
        (["train.py", "--run-id", "../x", "--dry-run"], "../x"),
        (["train.py", "--run-id", "", "--dry-run"], "run id"),
        (["train.py", "--config", "nowhere.json"], "nowhere.json"),
        (["train.py", "--lr", "0.1"], "after --"),
        ([], "SCRIPT"),
    ],
)
def test_wrong_usage_gets_a_sentence_and_status_2(
    backprop: CommandLine, arguments: list[str], words: str
) -> None:
    """Each wrong option is named in a sentence, with exit status 2, no traceback and no run."""
    backprop.script("open('ran', 'w')")
    backprop.script("{}", "train.ipynb")
    ran = backprop("run", *arguments)
    assert ran.returncode == 2, ran.stderr
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (backprop.folder / "ran").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "0.5"],
        ["-m", "1h30m"],
        ["-f", "PyTorch"],
        ["-f", "transformers"],
        ["-c", "0.5"],
        ["-c", "90s"],
        ["--wait=90s"],
        ["--grace", "2m"],
        ["--until-done", "--rest", "90s"],
        ["-g", "80%"],
        ["-g", "8"],
        ["-p", "3"],
        ["--min-free-ram", "0.1"],
        ["--max-load", "1.5"],
        ["--gpu-probe", "none"],
        ["--gpu-min-vram", "100"],
        ["--gpu-max-temp", "90"],
        ["--wait"],
        ["--no-wait"],
        ["--wait=2"],
        ["--wait-minutes", "1"],
        ["--grace", "0"],
        ["--python", sys.executable],
        ["--timeboxed-exit-code", "99"],
        ["--resume-flag", "--resume"],
        ["--checkpoint-glob", "*.pt"],
        ["--name", "a name"],
        ["--run-id", "an-id"],
        ["--run-id", "an-id", "--resume-or-start"],
        ["-r", "train.py", "--resume-flag", "--resume"],
        ["-r", "train.py", "-f", "none"],
        ["--rewrite", "click"],
        ["--rewrite", "train,click"],
        ["--rewrite", "none"],
        ["--json"],
        ["--verbose"],
    ],
)
def test_good_options_are_taken_before_and_behind_the_script(
    backprop: CommandLine, arguments: list[str]
) -> None:
    """Each option is accepted on both sides of SCRIPT."""
    backprop.script("")
    for order in ([*arguments, "train.py"], ["train.py", *arguments]):
        ran = backprop("run", *order, "--dry-run")
        assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "r", "--config", "a.json"], "--config has no effect with RUN"),
        (["logs", "r", "--lines", "all"], "'all' is not a valid whole number"),
        (["list", "--limit", "nan"], "'nan' is not a valid whole number"),
        (["list", "--newer-than", "7"], '"00:10:00".'),
        (["list", "--where", "9" * 5000], "999... cannot be read"),
        (["list", "--limit", "9x" * 5000], "9... is not a valid"),
        (["resume", "r", "--lr", "0.1"], "The script gets the arguments that it was started with."),
    ],
)
def test_what_other_commands_cannot_use_gets_a_sentence(
    backprop: CommandLine, arguments: list[str], words: str
) -> None:
    """Status 2, in words that people use, and no value that fills the screen."""
    ran = backprop(*arguments)
    assert ran.returncode == 2
    assert words in ran.stderr
    assert len(ran.stderr) < 600


def test_global_options_may_stand_before_the_command(backprop: CommandLine) -> None:
    """--config, --verbose, --dry-run and --json reach the command; its own value holds over the one before it."""
    backprop.script("open('ran', 'w')")
    for name, minutes in (("a.json", 7), ("b.json", 8)):
        (backprop.folder / name).write_text(json.dumps({"maxRunMinutes": minutes}))
    ran = backprop("--config", "a.json", "--verbose", "--dry-run", "run", "train.py")
    assert ran.returncode == 0, ran.stderr
    assert "for at most 7 min" in ran.stderr
    assert "a.json (maxRunMinutes)" in ran.stderr
    assert (
        "for at most 8 min"
        in backprop("--config", "a.json", "--dry-run", "run", "train.py", "--config", "b.json").stderr
    )
    assert not (backprop.folder / "ran").exists()
    assert json.loads(backprop("--json", "list").stdout) == []
    assert (
        json.loads(backprop("--config", "a.json", "--json", "config").stdout)["max-run-minutes"]["value"] == 7
    )
    assert backprop("--verbose", "list").returncode == 0


@pytest.mark.parametrize(
    "arguments", [["--dry-run", "list"], ["--dry-run", "stop", "x"], ["--colour", "list"]]
)
def test_a_global_option_that_the_command_does_not_know_is_refused(
    backprop: CommandLine, arguments: list[str]
) -> None:
    """Status 2 and a sentence with the option's name, and nothing was done."""
    backprop.script("open('ran', 'w')")
    ran = backprop(*arguments)
    assert ran.returncode == 2
    assert arguments[0] in ran.stderr
    assert not (backprop.folder / "ran").exists()


@pytest.mark.parametrize("command", [["run", "train.py"], ["config"], ["status"]])
def test_a_folder_that_was_removed_under_the_shell_is_named(
    backprop: CommandLine, command: list[str]
) -> None:
    """Status 2 and a sentence; what needs no folder works there."""
    ran = backprop(*command, preexec_fn=lambda: _into_a_removed_folder(backprop))
    assert ran.returncode == 2
    assert "current folder no longer exists" in ran.stderr
    assert backprop("list", preexec_fn=lambda: _into_a_removed_folder(backprop)).returncode == 0


def _into_a_removed_folder(backprop: CommandLine) -> None:
    folder = backprop.folder / "removed"
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()


@pytest.mark.parametrize("kind", ["file", "read-only"])
def test_a_home_that_cannot_be_used_is_status_2(backprop: CommandLine, kind: str) -> None:
    """A $BACKPROP_HOME that is a file, or a place that cannot be made, is named in one sentence."""
    backprop.script("open('ran', 'w')")
    if kind == "file":
        backprop.home.write_text("not a folder")
    else:
        backprop.environment["BACKPROP_HOME"] = "/proc/no/such/home"
    ran = backprop("run", "train.py")
    assert ran.returncode == 2
    assert "BACKPROP_HOME" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (backprop.folder / "ran").exists()


def test_a_duration_is_understood_where_minutes_are_asked_for(backprop: CommandLine) -> None:
    """`-m 5m` is 5 minutes, `-m 90s` one and a half; a bare number stays minutes, also in a file."""
    backprop.script("")
    for written, minutes in (("5m", "5 min"), ("90s", "1 min 30 s"), ("2", "2 min")):
        assert f"at most {minutes}, as run" in backprop("run", "train.py", "-m", written, "--dry-run").stderr
    (backprop.folder / "backprop.config.json").write_text('{"maxRunMinutes": "1h30m", "grace": "2m"}')
    shown = json.loads(backprop("config", "--json").stdout)
    assert (shown["max-run-minutes"]["value"], shown["grace"]["value"]) == (90.0, 120.0)
