"""An unmodified training where one name of its framework is another, or one method of ours fails."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backprop_core.ports.patches import Need
from tests.governed import governed
from tests.renaming import hidden, renamed

Broken = tuple[type, str, int]
"""A class of ours, its method, and the call of it that fails."""


def names_of(*groups: Iterable[Need]) -> list[str]:
    return sorted({name for group in groups for need in group for name in need.names})


def tell(
    framework: str,
    family: tuple[str, ...],
    declared: Sequence[str],
    shared: set[str],
    broken: Sequence[Broken],
    train: Callable[[], Any],
) -> None:
    """Train bare, and once for each change, in this process; prints what came of it as JSON.

    Args:
        family: the packages of the framework.
        shared: names that other packages or users' classes have, too: they are hidden from us instead.
        train: returns what has to be the same.
    """
    whole, _ = _heard(train)
    changes = {name: hidden(name) if name in shared else renamed(family, name) for name in declared}
    changes |= {f"{kind.__name__}.{name}": _failing(kind, name, call) for kind, name, call in broken}
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, change) in enumerate(changes.items()):
            with governed(Path(folder), f"run-{number}", framework=framework), change as places:
                try:
                    result, said = _heard(train)
                except Exception as error:
                    told[name] = {"error": f"{type(error).__name__}: {error}"}
                    continue
            lines = [line for line in said.splitlines() if line.startswith("backprop:")]
            told[name] = {"places": places, "same": result == whole, "said": lines}
    print("\n" + json.dumps(told))


def _heard(train: Callable[[], Any]) -> tuple[Any, str]:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        return train(), said.getvalue()


@contextlib.contextmanager
def _failing(kind: type, name: str, call: int) -> Iterator[int]:
    original, calls = vars(kind)[name], []

    def method(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise ZeroDivisionError("a fault of ours")
        return original(*args, **kwargs)

    setattr(kind, name, method)
    try:
        yield 1
    finally:
        setattr(kind, name, original)


def told_by(module: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """What `tell` of this module prints in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", module], env=dict(environ), cwd=Path(__file__).parents[1],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def assert_left_alone(one: Mapping[str, Any], name: str) -> None:
    """The training ended with what it has without us, and one line says what is missing."""
    assert "error" not in one, one
    assert one["places"] > 0
    assert one["same"]
    assert len(one["said"]) == 1, one["said"]
    assert "is not supported" in one["said"][0]
    assert name in one["said"][0]
    assert "The script continues, governed from outside." in one["said"][0]


def assert_stepped_aside(told: Mapping[str, Any], declared: Sequence[str], framework: str) -> None:
    """Wherever a fault of ours came, the training ended with what it has without us, and one line says that we are gone.

    A state that cannot be read once is a save that failed, and no more.
    """
    faults = {name: one for name, one in told.items() if name not in declared}
    assert faults
    for name, one in faults.items():
        assert one.get("same"), (name, one)
        assert sum("a fault of ours" in line for line in one["said"]) == 1, (name, one["said"])
        words = [f"stepped aside from {framework}"]
        words += ["The state could not be read"] if name.endswith(".states") else []
        gone = [line for line in one["said"] if any(word in line for word in words)]
        assert len(gone) == 1, (name, one["said"])
