"""Plain loops in several ranks come back exactly, to their end, each rank with its own counters and generators."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from backprop_core.errors import UnsavableStateError
from backprop_core.loop.rank_places import check_places
from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import cut, resumed, whole, with_environment

SCRIPT = Path(__file__).with_name("ranks_loop.py")
TORCHRUN = (str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2")


def _last_words(stdout: str) -> set[str]:
    return {line for line in stdout.splitlines() if line.startswith("rank ")}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_ranks_of_a_plain_loop_end_as_the_uncut_ones(backprop: CommandLine) -> None:
    """Cut in the middle of an epoch and resumed: each step of each rank leaves the uncut bits, and none comes twice."""
    with_environment(backprop, OMP_NUM_THREADS="1")
    uncut = whole(backprop, SCRIPT, "whole.x", "0", launcher=TORCHRUN)
    assert uncut.returncode == 0, uncut.stderr
    traces = [backprop.folder / f"cut.{rank}" for rank in (0, 1)]

    def is_under_way() -> bool:
        return all(trace.exists() and len(trace.read_text().splitlines()) >= 10 for trace in traces)

    cut(backprop, "cut", SCRIPT, "cut.x", "0.3", launcher=TORCHRUN, when=is_under_way)
    steps = [len(trace.read_text().splitlines()) for trace in traces]
    assert steps[0] == steps[1]
    assert 10 <= steps[0] < 24
    done = resumed(backprop, "cut")
    for rank, trace in enumerate(traces):
        assert trace.read_text() == (backprop.folder / f"whole.{rank}").read_text(), done.stderr
    assert _last_words(done.stdout) == _last_words(uncut.stdout)
    assert "cannot be kept" not in done.stderr


def test_ranks_in_different_loops_are_not_saved() -> None:
    """What each rank tells of its loops is compared: the checkpoint is not made, and the sentence names both places."""

    def part(step: int, *loops: str) -> dict[str, object]:
        return {
            "backprop.loops": {"step": step},
            "backprop.counted": {"loops": [{"where": where, "index": 3} for where in loops]},
        }

    check_places([part(5, "train.py:8", "train.py:9"), part(5, "train.py:8", "train.py:9")])
    with pytest.raises(
        UnsavableStateError, match=r"Process 1 is at step 5 in the loop at train\.py:20, and the first"
    ):
        check_places([part(5, "train.py:8"), part(5, "train.py:20")])
    with pytest.raises(UnsavableStateError, match="Process 1 is at step 6 outside all loops"):
        check_places([part(5, "train.py:8"), part(6)])
