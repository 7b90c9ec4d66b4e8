"""Folders that a script puts on `sys.path`, as its text tells."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from backprop_core.script_state.path_edits import folders_put_on_path

FILE = "/home/me/project/scripts/train.py"
PROJECT, SCRIPTS = "/home/me/project", "/home/me/project/scripts"


def _put(source: str) -> list[str]:
    return folders_put_on_path(ast.parse(source), FILE)


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("sys.path.append('/data/code')", "/data/code"),
        ("sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))", PROJECT),
        ("sys.path.append(os.path.join(os.path.dirname(__file__), '..'))", PROJECT),
        ("sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, 'src'))", f"{PROJECT}/src"),
        ("sys.path.append(os.path.dirname(__file__) + '/../src')", f"{PROJECT}/src"),
        (
            "HERE = Path(__file__).resolve()\nsys.path.insert(1, str(HERE.parents[1] / 'src'))",
            f"{PROJECT}/src",
        ),
        ("import pathlib\nsys.path.append(pathlib.Path(__file__).parent.parent.as_posix())", PROJECT),
        ("root = Path(__file__).absolute().parent\nsys.path.extend([str(root), f'{root}/more'])", SCRIPTS),
        ("sys.path += ['/data/code']", "/data/code"),
        ("sys.path = ['/data/code'] + sys.path", "/data/code"),
        ("sys.path[:0] = ['/data/code']", "/data/code"),
        ("if True:\n  try:\n    sys.path.append('/data/code')\n  except OSError: pass", "/data/code"),
        ("def set_up():\n  sys.path.append('/data/code')", "/data/code"),
        ("sys.path.append(os.path.expanduser('~/code'))", str(Path("~/code").expanduser())),
        ("sys.path.append(os.getcwd())", str(Path.cwd())),
        ("sys.path.append(str(Path.cwd() / 'src'))", str(Path.cwd() / "src")),
        ("sys.path.append('..')", str(Path.cwd().parent)),
    ],
)
def test_what_people_write_is_understood(source: str, folder: str) -> None:
    """The folder is known before the script has run."""
    assert folder in _put(source)


@pytest.mark.parametrize(
    "source",
    [
        "sys.path.append(sys.argv[1])",
        "sys.path.append(os.environ['CODE'])",
        "sys.path.append(find())",
        "sys.path.append(3)",
        "sys.path.append()",
        "sys.path.append('a' / 2)",
        "sys.path.append(Path(__file__).parents[99])",
        "sys.path.append(HERE)",
        "HERE = '/a'\nHERE = find()\nsys.path.append(HERE)",
        "sys.path.remove('/data/code')",
        "names.append('/data/code')",
        "os.path.join('/data', 'code')",
        "sys.path.append(f'{HERE!r}/x')",
    ],
)
def test_what_only_a_run_can_tell_is_left_to_it(source: str) -> None:
    """Nothing is guessed, and nothing is raised."""
    assert _put(source) == []
