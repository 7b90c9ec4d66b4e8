"""What users install: the wheel and the source distribution."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git knows, as they are now, in a folder of their own."""
    folder = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def build(source: Path, target: Path) -> dict[str, str]:
    """The digest of each file that was built, by name."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(source)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in target.iterdir()}


@pytest.mark.faults
def test_two_builds_are_the_same_bytes(source: Path, tmp_path: Path) -> None:
    """Files with new times in another folder give the same wheel and the same source distribution."""
    first = build(source, tmp_path / "first")
    again = tmp_path / "again"
    shutil.copytree(source, again, copy_function=shutil.copyfile)
    assert len(first) == 2
    assert build(again, tmp_path / "second") == first


@pytest.mark.faults
def test_the_wheel_works_in_an_empty_environment_and_leaves_nothing_behind(
    source: Path, tmp_path: Path
) -> None:
    """Installed without a framework it runs a script; uninstalled, none of its files or folders is left."""
    build(source, tmp_path / "dist")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--constraint", ROOT / "constraints.txt", wheel], check=True)
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text("print('trained')\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BACKPROP_")}
    environment |= {
        "BACKPROP_HOME": str(tmp_path / "home"),
        "BACKPROP_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    environment |= {"BACKPROP_MAX_LOAD": "1000", "BACKPROP_MIN_FREE_RAM": "0"}
    command = python.with_name("backprop")
    ran = subprocess.run(
        [command, "run", "train.py"], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "trained" in ran.stdout
    subprocess.run([*pip, "uninstall", "--yes", "backprop-timebox"], check=True)
    assert not list((tmp_path / "venv").rglob("*backprop*"))
    assert [path.name for path in work.iterdir()] == ["train.py"]


def test_the_conda_recipe_asks_for_what_the_package_asks_for() -> None:
    """Version, Python, requirements and the command of the recipe are those of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = (ROOT / "packaging" / "conda" / "meta.yaml").read_text()
    needs = [f"python {project['requires-python']}", *(_of_conda(one) for one in project["dependencies"])]
    run = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    assert sorted(line.strip("- ") for line in run.splitlines()) == sorted(needs)
    assert f'{{% set version = "{project["version"]}" %}}' in recipe
    assert [f"- {name} = {where}" in recipe for name, where in project["scripts"].items()] == [True]


def _of_conda(requirement: str) -> str:
    name, bound = requirement.split(">=")
    return f"{ {'xxhash': 'python-xxhash'}.get(name, name) } >={bound}"


def test_the_readme_of_the_package_leads_nowhere_wrong() -> None:
    """On the page of a package index no link is relative: it is absolute, or the line for `backprop docs`."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme = (ROOT / "README.md").read_text()
    links = re.compile(r"\]\((?!https:)")
    assert links.search(readme)
    for source in (None, "https://example.org/backprop"):
        assert not links.search(module.without_relative_links(readme, source))
    assert "`backprop docs scale`" in module.without_relative_links(readme, None)
    assert "https://example.org/backprop/blob/main/docs/scale.md" in module.without_relative_links(
        readme, "https://example.org/backprop"
    )
