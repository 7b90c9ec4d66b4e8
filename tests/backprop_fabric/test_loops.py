"""Unmodified loops with Lightning Fabric, cut and resumed in fresh processes under the real command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import cut, resumed, whole, with_environment

SHAPES = Path(__file__).with_name("fabric_loops.py")


@pytest.fixture
def backprop(tmp_path: Path) -> CommandLine:
    """The command, with a folder and a home of its own."""
    return with_environment(CommandLine(tmp_path), OMP_NUM_THREADS="1")


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param("epochs", marks=pytest.mark.long),
        *(pytest.param(shape, marks=pytest.mark.faults) for shape in ("accumulation", "epochs-2")),
    ],
)
def test_a_loop_with_fabric_goes_on_with_the_same_bits(backprop: CommandLine, shape: str) -> None:
    """Cut in the second epoch: each batch comes once, in the uncut order, and leaves the uncut weights, on every rank."""
    uncut = whole(backprop, SHAPES, shape, "whole.x", "0")
    assert uncut.returncode == 0, uncut.stderr
    ranks = range(2 if "-" in shape else 1)
    traces = [backprop.folder / f"cut.{rank}" for rank in ranks]

    def is_under_way() -> bool:
        return all(trace.exists() and len(trace.read_text().splitlines()) >= 11 for trace in traces)

    cut(backprop, "cut", SHAPES, shape, "cut.x", "0.1", when=is_under_way)
    steps = [len(trace.read_text().splitlines()) for trace in traces]
    done = resumed(backprop, "cut")
    for rank, trace in enumerate(traces):
        theirs = (backprop.folder / f"whole.{rank}").read_text()
        assert 11 <= steps[rank] < len(theirs.splitlines())
        assert trace.read_text() == theirs, done.stderr
    assert "cannot be kept" not in done.stderr
    assert "Not restored" not in done.stderr
