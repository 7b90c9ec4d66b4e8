"""Two processes that train together stop together, and come back as they were."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backprop_lightning.training import BoxedFit
from tests.backprop_torch.on_two_ranks import TORCHRUN, made, train

SCRIPT = "tests.backprop_lightning.two_ranks"

pytestmark = pytest.mark.timeout(900)


def piece(folder: Path, *words: str, launcher: tuple[str, ...] = (), status: int = 0) -> None:
    """Train one piece; Lightning starts the second process itself, or torchrun starts both."""
    ended = train(SCRIPT, folder, *words, launcher=launcher)
    assert ended.returncode == status, ended.stderr[-5000:]
    assert ended.stderr.count("backprop: run ") == 1, "one rank alone talks"


@pytest.mark.parametrize(
    "cuts",
    [
        pytest.param([("5", "train")], marks=pytest.mark.long),
        pytest.param([("5", "train"), ("3", "torchrun"), ("1", "validation")], marks=pytest.mark.faults),
    ],
)
def test_ranks_stop_after_the_same_step_and_resume_exactly(
    tmp_path: Path, cuts: list[tuple[str, str]]
) -> None:
    """A SIGTERM stops both with one checkpoint; each finds its own samples and random numbers again.

    It comes to the second rank in a step; to torchrun, which sends it to each rank's loader workers, too; and to the second
    rank inside a validation, where the ranks have different numbers of batches.
    """
    piece(tmp_path, "whole")
    for at, where in cuts:
        by_torchrun = where == "torchrun"
        piece(
            tmp_path, "cut", at, "1", where, launcher=TORCHRUN if by_torchrun else (), status=int(by_torchrun)
        )
    piece(tmp_path, "cut", launcher=TORCHRUN)
    for rank in (0, 1):
        whole = made(tmp_path, f"whole-0-{rank}")
        pieces = [made(tmp_path, f"cut-{at}-{rank}") for at in (*(at for at, _ in cuts), 0)]
        assert [one["outcome"] for one in pieces] == ["preempted"] * len(cuts) + ["completed"]
        assert {one["run"] for one in pieces} == {"cut"}
        for one, (_, where) in zip(pieces, cuts, strict=False):
            assert where != "validation" or one["validated"] == 1
        for part in ("seen", "logged"):
            assert [value for one in pieces for value in one[part]] == whole[part]
        assert pieces[-1]["weights"] == whole["weights"]
    for at, _ in cuts:
        steps = {made(tmp_path, f"cut-{at}-{rank}")["step"] for rank in (0, 1)}
        assert len(steps) == 1
        assert steps.pop() < 24
    assert len(list((tmp_path / "home/runs/cut/attempts").iterdir())) == len(cuts) + 1


def test_new_workers_serve_until_the_next_boundary_alone() -> None:
    """Where a signal ended the workers while a batch was waited for, the ranks trained on until the grace was over."""
    ended: list[bool] = []
    fit: Any = object.__new__(BoxedFit)
    fit.ranks = SimpleNamespace(count=2)
    fit.session = SimpleNamespace(
        requests=SimpleNamespace(signalled=True, workers_ended=lambda: ended.append(True))
    )
    fit.training_state = SimpleNamespace(
        framework=SimpleNamespace(is_stop_debris=lambda error: "worker" in str(error))
    )
    assert not fit.mends(RuntimeError("of the script's own"))
    assert not ended
    assert fit.mends(RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated."))
    assert ended
