"""Another package called `backprop` in front of ours."""

from __future__ import annotations

from pathlib import Path

from tests.backprop_cli.commandline import CommandLine


def test_another_package_of_our_name_is_named(backprop: CommandLine, tmp_path: Path) -> None:
    """`doctor` calls it wrong and `run` says it, each with the lines that mend it; without one neither says a word."""
    assert "finds another package" not in backprop("doctor", "--quick").stdout
    (tmp_path / "other" / "backprop").mkdir(parents=True)
    init = tmp_path / "other" / "backprop" / "__init__.py"
    init.write_text("from .core import *\n")
    backprop.environment["PYTHONPATH"] = str(init.parents[1])
    examined = backprop("doctor", "--quick")
    assert examined.returncode == 1
    assert f"wrong 'import backprop' finds another package, {init}" in examined.stdout
    told = backprop("run", "train.py", "--dry-run")
    assert "pip uninstall backprop" in told.stderr
