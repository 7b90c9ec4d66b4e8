"""Trainings on a GPU that are cut give the bits of the uncut ones: generators, cudnn, AMP, fused, graphs, torch.compile."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gpu.kinds import KINDS
from tests.gpu.pieces import CUTS


@pytest.mark.parametrize("kind", KINDS)
def test_the_device_gives_the_same_bits_twice(trained: dict[str, dict[str, Any]], kind: str) -> None:
    """Two whole trainings agree: else this device's kernels, and no cut, are the cause of what differs."""
    assert trained[kind]["again"] == trained[kind]["whole"]


@pytest.mark.parametrize("kind", KINDS)
def test_cut_into_four_pieces_it_has_the_bits_of_the_uncut_one(
    trained: dict[str, dict[str, Any]], kind: str
) -> None:
    """Weights, optimizer state, scaler and losses, after pieces that really ended early."""
    result = trained[kind]
    assert result["outcomes"][-1] == "completed"
    assert len(result["outcomes"]) == CUTS + 1
    assert set(result["outcomes"][:-1]) <= {"timeboxed", "preempted", "stopped"}, result["outcomes"]
    assert result["cut"] == result["whole"], f"cut after steps {result['at']}"
