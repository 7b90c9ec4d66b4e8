"""A single optimizer step that is a whole training: L-BFGS with many evaluations, behind another optimizer."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.backprop_torch.cutting import Cut, seed

ADAM = 12


def _train(cut: Cut, losses: list[float], *, evaluations: int = 150) -> float:
    """Adam, then one step of L-BFGS; the lowest loss."""
    gc.collect()
    net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
    x = torch.linspace(-1, 1, 64)[:, None]
    y = torch.sin(3 * x)
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    lbfgs = torch.optim.LBFGS(
        net.parameters(), max_iter=10_000, max_eval=evaluations, line_search_fn="strong_wolfe"
    )

    def evaluate() -> torch.Tensor:
        net.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        losses.append(loss.item())
        cut.reached(len(losses))
        return loss

    with cut.box():
        for _ in range(ADAM):
            evaluate()
            adam.step()
        lbfgs.step(evaluate)
    return min(losses)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))


@pytest.mark.parametrize("how", ["deadline", "control", "sigterm"])
def test_a_step_that_is_the_whole_training_is_saved_inside(
    how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Cut after 80 of its evaluations the resume goes on from a point as low as any before, and says that it begins anew."""
    first: list[float] = []
    seed(0)
    cut = Cut("inside", ADAM + 80, how)
    _train(cut, first)
    assert cut.opened is not None
    assert str(cut.opened.outcome) in ("timeboxed", "stopped", "preempted")
    assert len(first) < ADAM + 150
    assert capfd.readouterr().err.count("repeats this step") == 1
    again: list[float] = []
    seed(0)
    lowest = _train(Cut("inside", piece=1), again)
    assert again[:ADAM] == first[:ADAM]  # what came before it runs again
    reached = again[ADAM]
    assert reached < first[ADAM], "the step began from where it had begun the first time"
    assert reached <= sorted(first[ADAM:])[len(first[ADAM:]) // 2]
    assert lowest <= min(first[ADAM : ADAM + 80]) * 2


def test_steps_of_a_few_evaluations_are_never_saved_inside(capfd: pytest.CaptureFixture[str]) -> None:
    """What has boundaries between its steps stays exact: nothing is said, and nothing saved, inside of them."""
    net = nn.Linear(2, 1)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=20)
    x = torch.randn(8, 2)
    with Cut("few").box():
        for _ in range(10):

            def evaluate() -> torch.Tensor:
                optimizer.zero_grad()
                loss = net(x).square().mean()
                loss.backward()
                return loss

            optimizer.step(evaluate)
    assert "anew" not in capfd.readouterr().err
