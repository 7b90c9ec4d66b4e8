"""Two processes that train together stop together, and come back as they were."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backprop_torch.spacing import batches_to_next_talk
from tests.backprop_torch.cutting import environment

SCRIPT = ("-m", "tests.backprop_lightning.two_ranks")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")

pytestmark = pytest.mark.timeout(900)


def train(folder: Path, *words: str, launcher: tuple[str, ...] = ()) -> None:
    """Train one piece; Lightning starts the second process itself, or torchrun starts both."""
    ended = subprocess.run(
        [sys.executable, *launcher, *SCRIPT, str(folder), *words], env=environment(folder), cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-5000:]


def made(folder: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return loaded


def test_ranks_stop_after_the_same_step_and_resume_exactly(tmp_path: Path) -> None:
    """A SIGTERM to the second rank stops both with one checkpoint; each finds its own samples and random numbers again."""
    train(tmp_path, "whole")
    train(tmp_path, "cut", "11", "1")
    train(tmp_path, "cut", launcher=TORCHRUN)
    for rank in (0, 1):
        whole, first, second = (made(tmp_path, f"{name}-{rank}") for name in ("whole-0", "cut-11", "cut-0"))
        assert first["outcome"] == "preempted"
        assert 11 <= first["step"] < 24
        assert second["outcome"] == "completed"
        assert first["seen"] + second["seen"] == whole["seen"]
        assert first["logged"] + second["logged"] == whole["logged"]
        assert second["weights"] == whole["weights"]
        assert first["run"] == second["run"] == "cut"
    assert made(tmp_path, "cut-11-0")["step"] == made(tmp_path, "cut-11-1")["step"]


class _Session:
    """A session with steps of a given length and much time left."""

    def __init__(self, step_s: float, left_s: float) -> None:
        self.steps = 100
        self.requests = type("R", (), {"signalled": False})
        self.forecast = type("F", (), {"longest_step_s": lambda _: step_s})()
        self.pacer = type("P", (), {"save_s": lambda _: 0.5, "exit_s": lambda _: 0.5})()
        self.remaining_s = lambda: left_s


def test_talk_costs_less_than_a_thousandth_of_the_steps() -> None:
    """With steps of 50 ms and 0.4 ms for a collective, talk takes under 0.1% of the time, and comes thick near the end."""
    far: Any = _Session(0.05, 1000.0)
    assert 2 * 0.0004 / (batches_to_next_talk(far, 0.0004, 1) * 0.05) < 0.001
    near: Any = _Session(0.05, 1.2)
    assert batches_to_next_talk(near, 0.0004, 1) == 1
    over, talks, left_s = 0, 0, 1000.0
    while left_s > 1.1:
        batches = batches_to_next_talk(_Session(0.05, left_s), 0.0004, 1)  # type: ignore[arg-type]
        talks, left_s = talks + 1, left_s - batches * 0.05
        over = max(over, int(left_s < 1.0))
    assert over == 0
    assert talks * 2 * 0.0004 / 1000 < 0.001
