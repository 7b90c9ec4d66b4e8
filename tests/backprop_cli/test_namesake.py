"""Another package called `backprop` in front of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.backprop_cli.commandline import CommandLine

COMMAND = "import sys; sys.path.insert(0, sys.argv.pop(1)); from backprop_cli.__main__ import main; sys.exit(main())"
"""The command, with a folder in front of all others."""


def test_another_package_of_our_name_is_named(backprop: CommandLine, tmp_path: Path) -> None:
    """`doctor` calls it wrong and `run` says it, each with the lines that mend it; without one doctor says no word."""
    init = tmp_path / "other" / "backprop" / "__init__.py"
    init.parent.mkdir(parents=True)
    init.write_text("from .core import *\n")
    backprop.script("print('trained')")

    def told(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", COMMAND, str(init.parents[1]), *words],
            cwd=backprop.folder, env=backprop.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert "finds another package" not in backprop("doctor", "--quick").stdout
    examined = told("doctor", "--quick")
    assert examined.returncode == 1
    assert f"wrong 'import backprop' finds another package, {init}" in examined.stdout
    assert "pip uninstall backprop" in told("run", "train.py", "--dry-run").stderr
