"""What needs a GPU is collected where it is asked for by name, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import pytest_ignore_collect

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("asked", "ignored"),
    [
        (["tests"], True),
        (["."], True),
        (["tests/backprop_core", "tests/test_import_rules.py"], True),
        (["tests/gpu"], None),
        (["tests/gpu/test_card.py::test_two_runs_share_a_card"], None),
    ],
)
def test_only_its_own_name_collects_it(asked: list[str], ignored: bool | None) -> None:
    """`make test` passes by tests/gpu without a skipped test, a path into it collects it, and no other folder is ignored."""
    config: Any = SimpleNamespace(args=asked, invocation_params=SimpleNamespace(dir=ROOT))
    assert pytest_ignore_collect(ROOT / "tests" / "gpu", config) is ignored
    assert pytest_ignore_collect(ROOT / "tests" / "backprop_core", config) is None
