"""Who may import whom, proven in fresh interpreters."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAMEWORKS = {
    "torch", "lightning", "pytorch_lightning", "keras", "tensorflow", "jax", "jaxlib", "transformers", "numpy", "sklearn",
}  # fmt: skip
ADAPTERS = {"backprop_torch", "backprop_lightning", "backprop_keras", "backprop_transformers"}
MAY_USE = {"backprop_lightning": {"backprop_torch"}, "backprop_transformers": {"backprop_torch"}}
CORE_LIBRARIES = {"psutil", "xxhash", "typing_extensions"}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def _modules(package: str) -> list[str]:
    folder = ROOT / package
    names = []
    for path in sorted(folder.rglob("*.py")):
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
    for path in (ROOT / "backprop_core").rglob("*.py"):
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
    for path in (ROOT / "backprop_core").rglob("*.py"):
        assert not _imports(path) & (ADAPTERS | {"backprop_cli", "backprop"}), path
    for adapter in ADAPTERS:
        for path in (ROOT / adapter).rglob("*.py"):
            others = (ADAPTERS - {adapter} - MAY_USE.get(adapter, set())) | {"backprop_cli"}
            assert not _imports(path) & others, path


def test_command_imports_no_adapter() -> None:
    """The command meets the training process in the run's folder only."""
    for path in (ROOT / "backprop_cli").rglob("*.py"):
        assert not _imports(path) & FRAMEWORKS, path


def test_only_the_clock_reads_time() -> None:
    """No file of our packages but clock.py calls a function that tells the time or waits for it."""
    readers = {"time", "monotonic", "perf_counter", "sleep", "monotonic_ns", "time_ns", "perf_counter_ns"}
    for package in sorted(p.parent.name for p in ROOT.glob("backprop*/__init__.py")):
        for path in (ROOT / package).rglob("*.py"):
            if path.name == "clock.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                owner = node.func.value
                direct = isinstance(owner, ast.Name) and owner.id == "time" and node.func.attr in readers
                now = node.func.attr in ("now", "utcnow", "today") and isinstance(owner, ast.Name)
                wall = now and owner.id in ("datetime", "date")
                reads_time = direct or wall
                assert not reads_time, f"{path}:{node.lineno}"


def test_no_file_is_named_after_nothing() -> None:
    """No module is called utils, helpers, common or manager."""
    for path in ROOT.glob("backprop*/**/*.py"):
        assert path.stem not in FORBIDDEN_NAMES, path


def test_importing_the_core_is_light() -> None:
    """What `import backprop` loads is a short, known list, so it stays under 0.1 s: the time itself is in benchmarks."""
    loaded = _loaded_after("import backprop")
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
    for folder in ROOT.glob("backprop*/__init__.py"):
        assert folder.with_name("py.typed").is_file(), folder.parent.name
