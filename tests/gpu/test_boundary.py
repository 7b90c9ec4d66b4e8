"""A boundary asks the device for nothing: training may queue work far ahead of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import backprop

STEPS = 2_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))


def test_most_boundaries_wait_for_no_kernel() -> None:
    """With a long kernel in the queue thousands of boundaries go by; only the few that look at the time may wait."""
    model = torch.nn.Linear(8, 8).to("cuda")
    done, went_by = torch.cuda.Event(), 0
    with backprop.timebox("1h", checkpoint_every="1h", model=model) as box:
        for step in box.steps(STEPS):
            if step % 100 == 10:
                torch.cuda._sleep(50_000_000)
                done = torch.cuda.Event()
                done.record()
            elif step % 100 == 11:
                went_by += not done.query()
    assert went_by >= STEPS // 100 * 3 // 4
