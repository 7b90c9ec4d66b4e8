"""What of Lightning may change under us: one renamed name, or one fault of our own, never ends a script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backprop_lightning import needs
from tests.backprop_torch.cutting import environment

pytestmark = pytest.mark.timeout(900)

DECLARED = sorted(
    {
        name
        for group in (needs.OF_A_TRAINER, needs.OF_THE_PACKAGE, needs.OF_A_COMBINED_LOADER)
        for need in group
        for name in need.names
    }
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All trainings, from one process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.backprop_lightning.renamed_names", "lightning.pytorch"],
        env=environment(tmp_path_factory.mktemp("renamed")), cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("name", DECLARED)
def test_a_renamed_name_leaves_the_script_alone(told: dict[str, Any], name: str) -> None:
    """The training ends with the weights it has without us, and one line says what is missing."""
    one = told[name]
    assert "error" not in one, one
    assert one["places"] > 0
    assert one["same"]
    assert len(one["said"]) == 1, one["said"]
    assert "is not supported" in one["said"][0]
    assert name in one["said"][0]
    assert "The script goes on, governed from outside." in one["said"][0]


def test_a_fault_of_ours_leaves_the_script_alone(told: dict[str, Any]) -> None:
    """Wherever it comes, the training ends with the weights it has without us, and one line says that we are gone."""
    faults = {name: one for name, one in told.items() if name not in DECLARED}
    assert len(faults) >= 10
    for name, one in faults.items():
        assert one.get("same"), (name, one)
        assert sum("stepped aside from lightning" in line for line in one["said"]) == 1, (name, one["said"])
        assert sum("a fault of ours" in line for line in one["said"]) == 1, (name, one["said"])
