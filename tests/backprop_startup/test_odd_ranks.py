"""Several unchanged ranks: where one of them cannot go on in our box, all train on without it, or none does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import events, with_environment

SCRIPT = Path(__file__).with_name("odd_ranks.py")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        pytest.param("unsavable", "cannot be stored without pickle", marks=pytest.mark.faults),
        pytest.param(
            "part_of_one_rank", "Process 1 cannot give its part of the state", marks=pytest.mark.faults
        ),
        pytest.param("between_boundaries", "a fault of our own", marks=pytest.mark.faults),
        pytest.param("at_one_boundary", "a fault of our own", marks=pytest.mark.faults),
        pytest.param("before_the_box", "a fault of our own", marks=pytest.mark.faults),
        pytest.param("set_up", "a fault of our own", marks=pytest.mark.faults),
        pytest.param("boundary", "a fault of our own", marks=pytest.mark.faults),
    ],
)
def test_both_ranks_train_to_their_end(backprop: CommandLine, kind: str, said: str) -> None:
    """A state that cannot be stored, on all ranks or one, and faults of ours on the first: said, and nobody is ended."""
    with_environment(backprop, OMP_NUM_THREADS="1")
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", str(SCRIPT), kind]
    # torch itself aborts at the end of one in five such jobs, without us as well (measured)
    for run in ("odd", "odd-2", "odd-3", "odd-4"):
        how = ["--exec", sys.executable, "--", *words]
        done = backprop("run", "-m", "4", "--run-id", run, *how, timeout=240)
        if "terminate called without an active exception" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert f"rank {rank} trained 60 steps" in done.stdout
    assert said in done.stderr
    withdrawn = [event for event in events(backprop, run) if event["kind"] == "session_withdrawn"]
    assert bool(withdrawn) is (kind not in ("part_of_one_rank", "before_the_box"))
    assert done.stderr.count("continues, governed from outside") == (kind != "part_of_one_rank")


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rank", ["0", "1"])
def test_both_ranks_of_a_lightning_fit_train_to_their_end(backprop: CommandLine, rank: str) -> None:
    """A fault of ours at a boundary of one rank: Lightning trains on alone on both, and one line says why."""
    with_environment(backprop, OMP_NUM_THREADS="1")
    script = SCRIPT.with_name("odd_ranks_lightning.py")
    done = backprop("run", "-m", "4", "--run-id", "odd", str(script), rank, timeout=240)
    assert done.returncode == 0, done.stderr
    for each in (0, 1):
        assert f"rank {each} trained 60 steps" in done.stdout
    assert done.stderr.count("stepped aside from lightning") == 1
    assert any(event["kind"] == "session_withdrawn" for event in events(backprop, "odd"))


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_lightning_fit_with_a_sharded_model_trains_to_its_end(backprop: CommandLine) -> None:
    """It is saved by Lightning's adapter, and no other adapter takes the loop over: that ended it after two steps."""
    with_environment(backprop, OMP_NUM_THREADS="1")
    script = SCRIPT.parents[1] / "backprop_lightning" / "sharded_fit.py"
    done = backprop("run", "-m", "4", "--run-id", "odd", str(script), timeout=240)
    assert done.returncode == 0, done.stderr
    assert "trained 20 steps" in done.stdout
    assert "completed at step 20" in done.stderr
