"""Plain loops in several ranks come back exactly, to their end, each rank with its own counters and generators."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from backprop_core.errors import UnsavableStateError
from backprop_core.loop.rank_places import check_places
from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import cut, resumed, whole, with_environment

SCRIPT, ENDS = (Path(__file__).with_name(name) for name in ("ranks_loop.py", "ranks_end.py"))
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


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_rank_that_dies_when_the_first_has_ended_gets_its_own_state_again(backprop: CommandLine) -> None:
    """The first rank's final checkpoint lacks the part of the second, which got the first's: its counters differed."""
    with_environment(backprop, OMP_NUM_THREADS="1")
    uncut = whole(backprop, ENDS, "whole.x", "0", launcher=TORCHRUN)
    assert uncut.returncode == 0, uncut.stderr
    how = ("--exec", TORCHRUN[0], "--", *TORCHRUN[1:], str(ENDS), "cut.x", "0.02")
    died = backprop("run", "-m", "5", "-c", "0.4s", "--run-id", "cut", *how, timeout=240)
    assert died.returncode == 1, died.stderr
    done = resumed(backprop, "cut")
    assert "the final state of the first process alone" in done.stderr
    for rank in (0, 1):
        trace = (backprop.folder / f"cut.{rank}").read_text()
        assert trace == (backprop.folder / f"whole.{rank}").read_text(), done.stderr
    assert _last_words(done.stdout) == _last_words(uncut.stdout)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_ranks_whose_boxes_are_over_again_and_again_end_as_the_uncut_ones(backprop: CommandLine) -> None:
    """Ends at the deadline, box after box: each rank has its own list, counter and generators at the end."""
    with_environment(backprop, OMP_NUM_THREADS="1")
    uncut = whole(backprop, ENDS, "whole.x", "0", launcher=TORCHRUN)
    assert uncut.returncode == 0, uncut.stderr
    how = ("--exec", TORCHRUN[0], "--", *TORCHRUN[1:], str(ENDS), "cut.x", "1")
    done = backprop(
        "run", "-m", "12s", "--budget-from", "training", "--until-done", "--run-id", "cut", *how, timeout=800
    )
    assert done.returncode == 0, done.stderr
    assert len(backprop.record("cut")["attempts"]) > 2
    for rank in (0, 1):
        trace = (backprop.folder / f"cut.{rank}").read_text()
        assert trace == (backprop.folder / f"whole.{rank}").read_text(), done.stderr
    assert _last_words(done.stdout) == _last_words(uncut.stdout)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("words", [(), ("--", "unnumbered")], ids=["RANK", "unnumbered"])
def test_a_rank_that_dies_before_the_box_is_not_waited_for(
    backprop: CommandLine, words: tuple[str, ...]
) -> None:
    """Under a launcher that ends nobody the other rank waited ten minutes; it trains on, and says who has ended."""
    with_environment(backprop, OMP_NUM_THREADS="1")
    done = backprop("run", "-m", "8", str(SCRIPT.with_name("ranks_early_death.py")), *words, timeout=240)
    assert "Process 1 has ended before it came to the box" in done.stderr
    assert "trained 20 steps" in done.stdout
    (took_s,) = re.findall(r"the first step took ([\d.]+) s", done.stdout)
    assert float(took_s) < 60, done.stderr


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
