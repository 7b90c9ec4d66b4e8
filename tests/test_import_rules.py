"""Who may import whom, proven in fresh interpreters."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

from backprop_core import contract

ROOT = Path(__file__).parent.parent
FRAMEWORKS = {
    "torch", "lightning", "pytorch_lightning", "keras", "tensorflow", "jax", "jaxlib", "transformers", "numpy", "sklearn",
}  # fmt: skip
ADAPTERS = {
    "backprop_torch",
    "backprop_lightning",
    "backprop_fabric",
    "backprop_keras",
    "backprop_transformers",
}
MAY_USE = {
    one: {"backprop_torch"} for one in ("backprop_lightning", "backprop_fabric", "backprop_transformers")
}
CORE_LIBRARIES = {"psutil", "xxhash", "typing_extensions"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def _files(package: str) -> list[Path]:
    """Every source file of a package; one that has none is misspelt, and rules about it would hold for nothing."""
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, package
    return found


def _packages() -> set[str]:
    return {path.parent.name for path in ROOT.glob("backprop*/__init__.py")}


def _modules(package: str) -> list[str]:
    names = []
    for path in _files(package):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def _loaded_after(statement: str) -> set[str]:
    script = f"{statement}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def _imports(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("package", ["backprop", "backprop_core"])
def test_every_module_imports_no_framework(package: str) -> None:
    """Importing all of what users and adapters rely on loads no framework, no adapter and no command."""
    modules = [name for name in _modules(package) if "fsspec" not in name and ".testing" not in name]
    statement = "\n".join(f"import {name}" for name in modules)
    loaded = _loaded_after(statement)
    assert not loaded & (FRAMEWORKS | ADAPTERS | {"backprop_cli", "click", "rich"})


def test_core_imports_only_its_libraries() -> None:
    """No file of the core imports an adapter, the command, or a library that is not in its list, at module level."""
    allowed = set(sys.stdlib_module_names) | CORE_LIBRARIES | {"backprop_core", "__future__"}
    for path in _files("backprop_core"):
        if "testing" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = ast.Module([node for node in tree.body if not isinstance(node, ast.If | ast.Try)], [])
        for node in top.body:
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                assert node.module.partition(".")[0] in allowed, path


def test_core_and_adapters_do_not_know_each_other_wrongly() -> None:
    """Core imports no adapter and no command; adapters import neither each other nor the command."""
    for path in _files("backprop_core"):
        assert not _imports(path) & (ADAPTERS | {"backprop_cli", "backprop"}), path
    for adapter in ADAPTERS:
        for path in _files(adapter):
            others = (ADAPTERS - {adapter} - MAY_USE.get(adapter, set())) | {"backprop_cli"}
            assert not _imports(path) & others, path


def test_every_package_is_under_these_rules() -> None:
    """A package that is new is an adapter, and named here, or it is one of those that are none."""
    assert _packages() == ADAPTERS | {
        "backprop",
        "backprop_core",
        "backprop_cli",
        "backprop_notebook",
        "backprop_sinks",
        "backprop_startup",
    }


def test_command_imports_no_adapter() -> None:
    """The command meets the training process in the run's folder only: it imports no adapter and no framework."""
    for path in _files("backprop_cli"):
        assert not _imports(path) & (ADAPTERS | FRAMEWORKS), path


def test_every_package_is_checked_for_types_dead_code_and_is_shipped() -> None:
    """The lists of packages in pyproject.toml name all of them: a new one is under mypy and vulture, and in the wheel."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    wheel = tool["hatch"]["build"]["targets"]["wheel"]["packages"]
    for listed in (tool["mypy"]["packages"], tool["vulture"]["paths"], wheel):
        assert set(listed) == _packages()


def _reads_time(source: str) -> list[int]:
    """Lines that import `time`, or ask `datetime` or `date` for now."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            imported = [node.module or ""]
        asked = isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")
        of_datetime = asked and ast.unparse(node.value).rpartition(".")[2] in ("datetime", "date")
        if "time" in imported or of_datetime:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "source",
    [
        "import time as t",
        "from time import monotonic",
        "def f():\n    import os, time",
        "datetime.datetime.now(UTC)",
        "today = date.today",
    ],
)
def test_a_look_at_the_clock_is_seen_in_every_form(source: str) -> None:
    """The rule below finds imports under another name, inside functions, and methods that are only mentioned."""
    assert _reads_time(source)


def test_only_the_clock_reads_time() -> None:
    """No file of our packages but clock.py imports what tells the time or waits for it."""
    for package in sorted(_packages()):
        for path in _files(package):
            assert path.name == "clock.py" or not _reads_time(path.read_text(encoding="utf-8")), path
    assert _reads_time((ROOT / "backprop_core" / "clock.py").read_text(encoding="utf-8"))


def test_no_file_is_named_after_nothing() -> None:
    """No module is called utils, helpers, common or manager."""
    for path in [path for package in _packages() for path in _files(package)]:
        assert path.stem not in FORBIDDEN_NAMES, path


def test_our_dataclasses_are_the_quick_ones() -> None:
    """No file takes the standard library's decorator, which compiles six functions for each record at every start."""
    for path in [
        path for package in _packages() for path in _files(package) if path.name != "quick_dataclass.py"
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "dataclasses":
                assert "dataclass" not in [name.name for name in node.names], path


def test_importing_the_core_is_light() -> None:
    """`import backprop` loads next to nothing, and all its names nothing of others but xxhash and none of Python's heavy
    modules; the times are in benchmarks.
    """
    alone = (
        "import sys, backprop; assert not [name for name in sys.modules if name.startswith('backprop_core.')]"
    )
    subprocess.run([sys.executable, "-c", alone], check=True, cwd=ROOT)
    loaded = _loaded_after("from backprop import *")
    foreign = loaded - _loaded_after("pass") - set(sys.stdlib_module_names) - _packages()
    assert foreign - {"__main__"} <= {"xxhash"}
    assert not loaded & {"asyncio", "unittest", "multiprocessing", "http", "xml", "email"}


def test_without_file_locks_the_import_says_what_is_supported() -> None:
    """On a system without `fcntl` (Windows) package and command say where backprop runs, the command without a traceback."""
    without = "import sys; sys.modules['fcntl'] = None; "
    done = subprocess.run(
        [sys.executable, "-c", without + "import backprop"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert "ImportError: backprop runs on Linux and macOS" in done.stderr
    command = [sys.executable, "-c", without + "import backprop_cli.__main__"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "Linux and macOS" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_package_says_that_it_is_typed() -> None:
    """Each package of ours has its py.typed, or type checkers take all of it for Any."""
    for package in _packages():
        assert (ROOT / package / "py.typed").is_file(), package


def test_the_environment_contract_is_spelt_in_one_file() -> None:
    """No file of ours but the contract holds the name of a `BACKPROP_*` variable, whole or built from its parts."""
    for path in [path for package in _packages() for path in _files(package)]:
        own = path.relative_to(ROOT).as_posix()
        if own == "backprop_core/contract.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        named = [text for text in texts if isinstance(text, str) and re.fullmatch(r"BACKPROP_[A-Z_]*", text)]
        assert not named, f"{own}: put {named} into backprop_core/contract.py and import it from there"


def test_every_variable_of_the_contract_is_documented() -> None:
    """`docs/cli.md` names each variable that a script is told."""
    documented = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert not [name for name in contract.OF_ONE_ATTEMPT if f"`{name}`" not in documented]


LAYERS = (
    {"quick_dataclass", "own_descriptor", "true_class", "code_folders"},
    {
        "announced",
        "background",
        "clock",
        "contract",
        "errors",
        "launched_rank",
        "outcome",
        "strict_json",
        "weak_identity",
    },
    {"events", "own_line"},
    {"deadline"},
    {"config", "runs", "checkpoints"},
    {"provenance"},
    {"earlier_attempt", "history", "import_watch", "ports", "resources", "unseeded"},
    {"export", "script_files", "script_state", "governor"},
    {"prove"},
    {"session"},
    {"loop"},
    {"testing"},
)
"""Rooms of the core from the ground up: a room imports those below it and its own, and none beside or above it."""


def _source_of() -> dict[str, Path]:
    return {
        name: path
        for package in _packages()
        for name, path in zip(_modules(package), _files(package), strict=True)
    }


def _imported(nodes: Iterable[ast.AST], known: set[str], package: str) -> set[str]:
    """Modules of ours that the statements of a module in `package` import, each in whatever form."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            whole = {f"{module}.{alias.name}" for alias in node.names}
            found |= (whole & known) or {module}
    return found & known


def _imports_of_all() -> dict[str, set[str]]:
    """Of every module those of ours that it imports, those for type checkers and those in functions included."""
    sources = _source_of()
    found = {}
    for name, path in sources.items():
        package = ".".join(path.parent.relative_to(ROOT).parts)
        found[name] = _imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))), set(sources), package)
    return found


def _circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty where none do."""
    left = {name: set(those) for name, those in imports.items()}
    while done := [name for name, those in left.items() if not those & left.keys() - {name}]:
        for name in done:
            del left[name]
    return sorted(left)


def test_a_circle_is_seen() -> None:
    """The rule below finds a circle of three, and none in a chain."""
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "d"]
    assert not _circle({"a": {"b"}, "b": {"c"}, "c": set()})


@pytest.mark.parametrize(
    "source",
    [
        "import a.b",
        "from a import b",
        "from a.b import Name",
        "from . import b",
        "from .b import Name",
        "if TYPE_CHECKING:\n    from .b import Name",
        "def late():\n    from .b import Name",
    ],
)
def test_an_import_is_seen_in_every_form(source: str) -> None:
    """The rules below see imports that are relative, late, or for type checkers alone."""
    assert _imported(ast.walk(ast.parse(source)), {"a.b", "a.c"}, "a") == {"a.b"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Whatever is imported first, all it needs is there; what is imported late or for its types alone makes none either."""
    assert not _circle(_imports_of_all())


def _room(module: str) -> str:
    return module.split(".")[1] if module.startswith("backprop_core.") else ""


def test_rooms_of_the_core_import_only_what_is_below_them() -> None:
    """Each room has its layer, and none reaches up, or to a neighbour in the same one, however late it imports."""
    height = {room: number for number, layer in enumerate(LAYERS) for room in layer}
    for module, those in _imports_of_all().items():
        own = _room(module)
        for other in {_room(one) for one in those} - {"", own} if own else ():
            assert {own, other} <= height.keys(), f"{own} or {other} is new: give it its place in LAYERS"
            assert height[other] < height[own], f"{module} imports {other}"


def test_every_decision_has_a_number_of_its_own() -> None:
    """The records in `docs/decisions` are numbered without a double, and each begins with its number."""
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [record.name[:4] for record in records]
    assert len(set(numbers)) == len(numbers), numbers
    for record in records:
        assert record.read_text(encoding="utf-8").startswith(f"# {int(record.name[:4])}. "), record.name


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/adapters.md", "CONTRIBUTING.md"])
def test_every_file_that_the_pages_for_developers_name_exists(page: str) -> None:
    """Where a page says that something is to be changed, there it is."""
    files = [
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/**/*.py") if ".venv" not in path.parts
    ]
    named = set(re.findall(r"\w[\w/]*\.py\b", (ROOT / page).read_text(encoding="utf-8")))
    assert named
    assert not [name for name in sorted(named) if not any(f"/{file}".endswith(f"/{name}") for file in files)]


SAME_NAMES = {
    "BackpropCallback": "what users write, one in each adapter's package",
    "BudgetLR": "what users write, one for PyTorch and one for Keras",
}
"""Names that several classes have, and why. None is added without a reason that a reader accepts."""


def test_no_two_classes_share_a_name() -> None:
    """A class's name has one meaning in all of our packages; one that begins with an underscore is its file's own.

    In `testing` classes stand for a user's own, whose names are theirs.
    """
    places: dict[str, list[str]] = {}
    for path in [path for package in _packages() for path in _files(package) if "testing" not in path.parts]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    shared = {name: files for name, files in places.items() if len(files) > 1}
    assert not {name: shared[name] for name in shared.keys() - SAME_NAMES.keys()}
    assert SAME_NAMES.keys() <= shared.keys()


LONG_FILES = {
    "backprop_core/loop/loop_state.py": "wants a split: what is tracked, taken and given back",
    "backprop_core/loop/script_loop_state.py": "wants a split: what is taken, and the way back",
    "backprop_lightning/boundaries.py": "wants a split: when its loaders are made, and where boundaries lie",
    "backprop_core/script_state/state.py": "wants a split: what is remembered, and what is put back",
    "backprop_lightning/patches.py": "wants a split: the way in, and the way out",
    "backprop_lightning/training_state.py": "wants a split: what is taken, and what is put back",
    "backprop_core/events/kinds.py": "one table: every event and its fields, from which docs/events.md is made",
    "backprop_core/session/session.py": "the one port that adapters call; its parts are in files of their own",
    "backprop_core/script_state/restore.py": "wants a split: what is looked at, made and written; values in places",
    "backprop_core/script_state/rewrite.py": "one visitor over Python's grammar",
}
"""Files over 350 lines, and why. None is added without a reason that a reader accepts; a split takes its line away."""


def test_a_file_over_350_lines_has_a_written_reason() -> None:
    """A file that grows beyond 350 lines says why in `LONG_FILES`, and leaves it when it has been split."""
    every = [path for package in _packages() for path in _files(package)]
    long = {
        path.relative_to(ROOT).as_posix()
        for path in every
        if len(path.read_text(encoding="utf-8").splitlines()) > 350
    }
    assert long <= LONG_FILES.keys(), sorted(long - LONG_FILES.keys())
    assert LONG_FILES.keys() <= {path.relative_to(ROOT).as_posix() for path in every}
