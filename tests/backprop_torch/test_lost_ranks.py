"""A rank that is stopped or killed: the others end in time, and a resume continues exactly from the newest checkpoint."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.backprop_torch.cutting import environment
from tests.backprop_torch.on_two_ranks import made

SCRIPT = "tests.backprop_torch.lost_ranks"
BUDGET_S = 8.0
WAITS_S = 12.0
"""What a rank waits beyond the deadline: see rank_patience.py; lost_ranks.py shortens what a first rank may take to save."""
pytestmark = pytest.mark.timeout(900)


@contextmanager
def ranks(
    folder: Path, run: str, budget: str, name: str, where: str, victim: int
) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes without torchrun, which would end one for the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [sys.executable, "-m", SCRIPT, str(folder), run, budget, name, where, str(victim)]
    started = []
    for rank in ("0", "1"):
        told: Mapping[str, str] = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
        with (folder / f"{run}-{name}-{rank}.log").open("w") as log:
            started.append(
                subprocess.Popen(
                    words,
                    env={**environment(folder), **told, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
                    cwd=Path(__file__).parents[2],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
    try:
        yield started
    finally:
        for one in started:
            if one.poll() is None:
                os.kill(one.pid, signal.SIGKILL)
            one.wait()


def said(folder: Path, run: str, name: str, rank: int) -> str:
    return (folder / f"{run}-{name}-{rank}.log").read_text(errors="replace")  # torch cuts an emoji in two


def trained_on(folder: Path, run: str) -> None:
    """The same run, whole: exactly as one that nothing has happened to, from a checkpoint of before."""
    for name in (run, "whole"):
        with ranks(folder, name, "10m", "none", "step", 0) as both:
            assert [one.wait(300) for one in both] == [0, 0], said(folder, name, "none", 0)
    for rank in (0, 1):
        resumed, whole = made(folder, f"{run}-{rank}"), made(folder, f"whole-{rank}")
        assert resumed["outcome"] == whole["outcome"] == "completed"
        assert resumed["resumed"]
        assert not whole["resumed"]
        assert (resumed["weights"], resumed["drawn"]) == (whole["weights"], whole["drawn"])


@pytest.mark.parametrize(
    ("where", "victim"),
    [
        pytest.param("talk", 1, marks=pytest.mark.faults),
        pytest.param("talk", 0, marks=pytest.mark.faults),
        pytest.param("save", 1, marks=pytest.mark.faults),
    ],
)
def test_nobody_waits_for_ever_for_a_rank_that_is_stopped(tmp_path: Path, where: str, victim: int) -> None:
    """It leaves the box by itself soon after the deadline, with the checkpoint of before, which a resume continues."""
    other = 1 - victim
    with ranks(tmp_path, "cut", f"{BUDGET_S}s", "SIGSTOP", where, victim) as both:
        assert both[other].wait(300) == 0, said(tmp_path, "cut", "SIGSTOP", other)
        assert both[victim].poll() is None
    left = made(tmp_path, f"cut-{other}")
    assert left["outcome"] == "timeboxed"
    assert left["took_s"] < BUDGET_S + 2 * WAITS_S
    assert "has not come to this place in time" in said(tmp_path, "cut", "SIGSTOP", other)
    trained_on(tmp_path, "cut")


@pytest.mark.parametrize(
    ("where", "victim"),
    [
        pytest.param("save", 1, marks=pytest.mark.long),
        pytest.param("talk", 1, marks=pytest.mark.faults),
        pytest.param("talk", 0, marks=pytest.mark.faults),
        pytest.param("step", 1, marks=pytest.mark.faults),
    ],
)
def test_a_rank_that_is_killed_costs_what_came_after_the_last_checkpoint(
    tmp_path: Path, where: str, victim: int
) -> None:
    """The other one fails at once, whatever it waited for, and leaves no half checkpoint; a resume continues exactly."""
    other = 1 - victim
    with ranks(tmp_path, "cut", "10h", "SIGKILL", where, victim) as both:
        assert both[victim].wait(300) == -signal.SIGKILL
        assert both[other].wait(60) not in (0, -signal.SIGKILL)
    assert "is gone" in said(tmp_path, "cut", "SIGKILL", other) or where == "step"
    trained_on(tmp_path, "cut")
