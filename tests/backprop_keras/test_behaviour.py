"""What a user sees of BackpropCallback beside exactness. The scenarios of one backend run in one child process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backprop_keras.cutting import ROOT, compiled_once, environment, process
from tests.backprop_keras.test_exactness import names_in


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("torch", marks=pytest.mark.long),
        pytest.param("jax", marks=pytest.mark.faults),
        pytest.param("tensorflow", marks=pytest.mark.faults),
    ],
)
def test_every_scenario_holds(backend: str, tmp_path: Path) -> None:
    """Each scenario of scenarios.py holds on this backend; what it proves stands in its own docstring."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.backprop_keras.scenarios", str(tmp_path)],
        env=environment(backend, tmp_path) | compiled_once(tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    answers = json.loads(ended.stdout.splitlines()[-1])
    assert [*answers] == names_in("scenarios.py", "scenario")
    failed = {name: why for name, why in answers.items() if why}
    assert not failed, "\n\n".join(f"{name}\n{why}" for name, why in failed.items())


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_checkpoint_moves_to_another_backend(tmp_path: Path) -> None:
    """A training begun on PyTorch goes on under JAX, then TensorFlow, and says that bits are not promised."""
    order = {"arrays_in_order": {"run": "moved", "at": 3, "how": "sigterm"}}
    first = process("torch", tmp_path, order, piece=0)["arrays_in_order"]
    assert first["outcome"] == "preempted"
    for piece, (at, backend, before) in enumerate(((6, "jax", "torch"), (None, "tensorflow", "jax")), 1):
        order["arrays_in_order"]["at"] = at
        moved = process(backend, tmp_path, order, piece=piece)["arrays_in_order"]
        assert moved["outcome"] == ("preempted" if at else "completed"), moved
        assert moved["executions"] == (at or 10)
        assert any(f"keras_backend: {before} then, {backend} now" in text for text in moved["said"]), moved[
            "said"
        ]
