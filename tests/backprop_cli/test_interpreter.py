"""Which interpreter runs the script, where backprop has an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backprop_cli.interpreter import find_interpreter, missing_module_hint
from backprop_core.errors import UsageError
from tests.backprop_cli.commandline import CommandLine
from tests.backprop_cli.environments import bare_environment, base_install


def _run_from(tool: Path, backprop: CommandLine, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {
        key: value
        for key, value in backprop.environment.items()
        if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")
    }
    return subprocess.run(
        [tool, "-m", "backprop_cli", "run", "train.py"],
        cwd=backprop.folder, env=environment | environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("mark", ["pipx_metadata.json", "uv-receipt.toml"])
def test_the_active_environment_runs_the_script(backprop: CommandLine, tmp_path: Path, mark: str) -> None:
    """From pipx or `uv tool`: VIRTUAL_ENV, then CONDA_PREFIX, then `python` on PATH, and it is said which."""
    tool = base_install(tmp_path / "tool")
    (tmp_path / "tool" / mark).write_text("")
    venv, conda, path = (bare_environment(tmp_path / name) for name in ("venv", "conda", "path"))
    backprop.script("import sys; print(sys.prefix)")
    on_path = f"{path.parent}:/usr/bin:/bin"
    active = {"VIRTUAL_ENV": str(tmp_path / "venv"), "CONDA_PREFIX": str(tmp_path / "conda"), "PATH": on_path}
    for name, expected in (("VIRTUAL_ENV", venv), ("CONDA_PREFIX", conda), ("PATH", path)):
        ran = _run_from(tool, backprop, **active)
        assert ran.stdout == f"{expected.parent.parent}\n", ran.stderr
        assert f"runs with {expected} (from " in ran.stderr
        assert name in ran.stderr
        active.pop(name)


def test_an_environment_that_was_made_for_the_training_runs_it(tmp_path: Path) -> None:
    """backprop beside a framework keeps its own interpreter, whatever is active; so does an active one that is its own."""
    elsewhere = bare_environment(tmp_path / "venv").parent.parent
    assert find_interpreter(None, {"VIRTUAL_ENV": str(elsewhere)}).path == sys.executable
    tool = tmp_path / "tool"
    tool.mkdir()
    (tool / "uv-receipt.toml").write_text("")
    assert find_interpreter(None, {"VIRTUAL_ENV": str(tool)}, str(tool)).path == sys.executable
    chosen = find_interpreter(
        None, {"VIRTUAL_ENV": str(tmp_path / "gone"), "PATH": str(elsewhere / "bin")}, str(tool)
    )
    assert (chosen.path, chosen.source) == (str(elsewhere / "bin" / "python"), "python on PATH")
    assert find_interpreter(None, {"PATH": ""}, str(tool)).sentence() == ""
    assert find_interpreter("sh").path == shutil.which("sh")
    with pytest.raises(UsageError, match="no interpreter no-such-python"):
        find_interpreter("no-such-python")


def test_a_missing_module_gets_a_hint(backprop: CommandLine) -> None:
    """A script that fails on an import is told which interpreter lacks what, and what to do; other failures are not."""
    backprop.script("import no_such_module.deeper")
    ran = backprop("run", "train.py")
    assert ran.returncode == 1
    assert f"{sys.executable} has no module no_such_module." in ran.stderr
    assert "--python" in ran.stderr
    assert missing_module_hint("The script failed with exit status 1: ValueError: no.", sys.executable) == ""
    backprop.script("raise ValueError('no')")
    assert "has no module" not in backprop("run", "train.py").stderr
