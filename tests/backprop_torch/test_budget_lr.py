"""A learning rate that follows the budget: to its end in time, the same again on a resume and in a replay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import backprop
from backprop_core.errors import UsageError
from backprop_core.runs.schedule_record import read_schedule
from backprop_torch import BudgetLR
from tests.backprop_torch.on_two_ranks import made, trained

SCRIPT = """
import hashlib, os, pathlib, signal, sys, time, torch, backprop
from torch import nn
from backprop_torch import BudgetLR
run, kill_at, replay = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or [None])[0]
torch.manual_seed(0)
model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
box = backprop.timebox("5m", run=run, checkpoint_every=0.05, model=model, optimizer=optimizer)
scheduler = BudgetLR(optimizer, box, replay=replay)
with box:
    for step in box.steps(400):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).pow(2).sum().backward()
        optimizer.step()
        scheduler.step()
        if step >= kill_at >= 0:  # and there is something to go on from
            time.sleep(0.02)
            if list(pathlib.Path(os.environ["BACKPROP_HOME"], "runs", run, "checkpoints").glob("step-*")):
                os.kill(os.getpid(), signal.SIGKILL)
weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
print(hashlib.sha256(weights).hexdigest(), optimizer.param_groups[0]["lr"])
"""


def _small() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(4, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: BudgetLR) -> float:
    optimizer.zero_grad()
    model(torch.ones(2, 4)).pow(2).sum().backward()
    optimizer.step()
    scheduler.step()
    return float(optimizer.param_groups[0]["lr"])


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path / "home"))


def test_it_is_near_zero_when_the_budget_is_over() -> None:
    """However many steps fit: it rises to the optimizer's own rate, falls, and is under 5% of it at the last step."""
    model, optimizer = _small()
    with backprop.timebox(3.0, model=model, optimizer=optimizer) as box:
        scheduler = BudgetLR(optimizer, box)
        rates = [_train(model, optimizer, scheduler) for _ in box.steps(10**9)] or [0.0]
        raise AssertionError(f"the box did not end: {len(rates)}")
    assert box.outcome is backprop.Outcome.TIMEBOXED
    assert box.progress > 0.9
    assert optimizer.param_groups[0]["lr"] < 0.1 * 0.1


@pytest.mark.long
def test_a_killed_and_a_replayed_run_have_the_same_bits(tmp_path: Path) -> None:
    """Killed at a step, resumed; and replayed in another run from nothing: weights and rates are the same, bit for bit."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(os.environ), timeout=300
        )

    assert run("first", "250").returncode == -9
    recorded = tmp_path / "home/runs/first/schedules/schedule.f64"
    before = read_schedule(recorded)
    assert len(before) >= 250
    resumed = run("first", "-1")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed from step" in resumed.stderr
    whole = read_schedule(recorded)
    assert whole[: len(before)] == before, "what was recorded is used again"
    assert all(0.0 <= share < 0.5 for share in whole), "five minutes are not over"
    replayed = run("second", "-1", "first")
    assert replayed.returncode == 0, replayed.stderr
    assert replayed.stdout == resumed.stdout
    assert read_schedule(tmp_path / "home/runs/second/schedules/schedule.f64") == whole


@pytest.mark.faults
def test_two_ranks_have_one_schedule(tmp_path: Path) -> None:
    """Both ranks have the same rate in each step, though each has a clock of its own; cut, resumed, and replayed by another
    run, the rates, losses and weights are the same, bit for bit.
    """
    script = "tests.backprop_torch.budget_ranks"
    for words in (("first", "30"), ("first", "0"), ("second", "0", "first")):
        trained(script, tmp_path, *words)
    told = {
        (name, rank): made(tmp_path, f"{name}-{rank}")
        for name in ("first-30", "first-0", "second-0")
        for rank in (0, 1)
    }
    assert [told[name, 0]["outcome"] for name in ("first-30", "first-0", "second-0")] == [
        "preempted",
        "completed",
        "completed",
    ]
    for rank in (0, 1):
        before, whole = (
            told["first-30", rank]["seen"],
            told["first-0", rank]["seen"],
        )  # the list is the script's
        assert 30 <= len(before) < 80
        assert whole[: len(before)] == before
        assert [step for step, *_ in whole] == list(range(80))
        assert told["second-0", rank]["seen"] == whole
        assert told["second-0", rank]["weights"] == told["first-0", rank]["weights"]
    rates = [[rate for _, rate, _ in told["second-0", rank]["seen"]] for rank in (0, 1)]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 70


def test_a_box_with_a_budget_of_its_own_is_told_to_begin_again(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that goes on in another box, without one budget over both, begins its schedule again, and that is said."""
    torch.manual_seed(0)
    for budget, steps in ((2.5, 10**9), ("5m", 10**9)):
        model, optimizer = _small()
        with backprop.timebox(budget, run="twice", model=model, optimizer=optimizer) as box:
            scheduler = BudgetLR(optimizer, box)
            for number, _ in enumerate(box.steps(steps)):
                _train(model, optimizer, scheduler)
                if budget == "5m" and number == 2:
                    break
    assert "starts again at" in capsys.readouterr().err


def test_two_schedules_need_two_names() -> None:
    """Two under one name would share a record, so the second is refused with what to do."""
    model, optimizer = _small()
    with backprop.timebox("1m", model=model, optimizer=optimizer) as box:
        BudgetLR(optimizer, box)
        with pytest.raises(UsageError, match="name"):
            BudgetLR(optimizer, box)


def test_a_replay_of_nothing_is_told() -> None:
    """A run without a recorded schedule is named, instead of following the clock in silence."""
    model, optimizer = _small()
    with backprop.timebox("1m", model=model, optimizer=optimizer) as box:
        scheduler = BudgetLR(optimizer, box, replay="no-such-run")
        with pytest.raises(UsageError, match="no-such-run"):
            _train(model, optimizer, scheduler)


def test_behind_the_end_of_a_replay_it_is_said_that_runs_differ(capsys: pytest.CaptureFixture[str]) -> None:
    """A longer training than the recorded one goes on by its own clock, with a warning."""
    model, optimizer = _small()
    with backprop.timebox("1m", run="short", model=model, optimizer=optimizer) as box:
        scheduler = BudgetLR(optimizer, box)
        short = [_train(model, optimizer, scheduler) for _ in range(3)]
    model, optimizer = _small()
    with backprop.timebox("1m", model=model, optimizer=optimizer) as box:
        scheduler = BudgetLR(optimizer, box, replay="short")
        assert [_train(model, optimizer, scheduler) for _ in range(3)] == short
        assert "runs differ" not in capsys.readouterr().err
        _train(model, optimizer, scheduler)
        assert "runs differ" in capsys.readouterr().err


def test_a_box_that_is_put_off_behind_its_first_step_begins_its_schedule_there() -> None:
    """With `--budget-from training` the share falls once training has begun: the whole schedule still follows."""
    shares = iter([0.96, 0.97, 0.5, 0.75, 1.0])

    class Box:
        def progress_at(self, *_: object) -> float:
            return next(shares)

    optimizer = _small()[1]
    scheduler = BudgetLR(optimizer, Box(), warmup=0.0)
    rates = []
    for _ in range(4):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.075, 0.1, 0.05, 0.0])
