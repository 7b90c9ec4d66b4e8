"""Unmodified scripts, cut at each boundary that their loops have and resumed: the bits of the uncut script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("shape", "every"),
    [
        pytest.param("evaluations", 4, marks=pytest.mark.long),
        pytest.param("made_models", 5, marks=pytest.mark.long),
        pytest.param("reordered", 7, marks=pytest.mark.long),
        pytest.param("stages", 5, marks=pytest.mark.long),
        *(
            pytest.param(shape, 1, marks=pytest.mark.faults)
            for shape in (
                "evaluations",
                "accumulation",
                "kept_weights",
                "episodes",
                "made_models",
                "reordered",
                "stages",
            )
        ),
    ],
)
def test_a_cut_at_any_boundary_changes_nothing(tmp_path: Path, shape: str, every: int) -> None:
    """Before a pass's first batch, between gradients, inside an evaluation: what is printed and saved is as uncut."""
    words = [HERE / "every_boundary.py", HERE / "boundary_shapes.py", shape, tmp_path, str(every)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKPROP_")}
    environment["PYTHONPATH"] = str(HERE.parents[1])
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
