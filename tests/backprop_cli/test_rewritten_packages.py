"""Packages of `--rewrite` that the script's interpreter lacks: said before anything starts, wherever they are named."""

from __future__ import annotations

import json
import sys

from tests.backprop_cli.commandline import CommandLine


def test_a_package_from_a_file_or_a_variable_is_looked_for_too(backprop: CommandLine) -> None:
    """Where it is named is said; a proof looks before it copies anything."""
    backprop.script("")
    (backprop.folder / ".backprop.json").write_text(json.dumps({"rewrite": "clck"}))
    for command in ("run", "prove"):
        ran = backprop(command, "train.py")
        assert ran.returncode == 2
        assert f".backprop.json (rewrite): {sys.executable} finds no package clck." in ran.stderr
    backprop.environment["BACKPROP_REWRITE"] = "clk"
    assert "BACKPROP_REWRITE" in backprop("run", "train.py").stderr


def test_a_package_in_a_folder_of_pythonpath_or_beside_the_script_is_found(backprop: CommandLine) -> None:
    """What the script's own interpreter would import is there; a package that is gone at a resume is named."""
    (backprop.folder / "elsewhere").mkdir()
    package = backprop.folder / "elsewhere" / "apart.py"
    package.write_text("")
    (backprop.folder / "sub").mkdir()
    backprop.script("", "sub/beside.py")
    backprop.script("import sys; sys.exit(1)", "sub/train.py")
    backprop.environment["PYTHONPATH"] = str(package.parent)
    ran = backprop("run", "sub/train.py", "--rewrite", "apart,beside", "--run-id", "r")
    assert ran.returncode == 1, ran.stderr
    package.unlink()
    again = backprop("resume", "r")
    assert again.returncode == 2
    assert "finds no package apart" in again.stderr


def test_a_program_is_asked_for_its_interpreter_and_no_other_program_is(backprop: CommandLine) -> None:
    """The first line of a script such as torchrun names its Python; what a shell script starts is not known."""
    for name, first, status in (
        ("tool", f"#!{sys.executable}", 2),
        ("env", "#!/usr/bin/env python3", 2),
        ("sh", "#!/bin/sh", 0),
    ):
        path = backprop.script(f"{first}\n", name)
        path.chmod(0o755)
        ran = backprop("run", "--exec", f"./{name}", "--rewrite", "clck")
        assert ran.returncode == status, (name, ran.stderr)
