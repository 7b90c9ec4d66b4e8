"""kill -9 at thirty random moments loses nothing that was committed, and nothing of exactness."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import backprop
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from tests.backprop_torch.cutting import digest
from tests.backprop_torch.kinds._parts import dataset, network, train_step

KILLS = 30
STEPS = 400


def _train(home: str, report: str, run: str, kill_after: int | None, kill_delay_s: float) -> None:
    """One process: trains run `run`, and kills itself so many steps after its beginning and a little later."""
    os.environ.update(BACKPROP_HOME=home)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses: list[float] = []
    x, y = dataset().tensors
    now = threading.Event()

    def kill() -> None:
        now.wait()
        SYSTEM.wait(threading.Event(), kill_delay_s)
        os.kill(os.getpid(), signal.SIGKILL)

    if kill_after is not None:
        threading.Thread(target=kill, daemon=True).start()
    every = "1h" if run == "whole" else 0.01
    with backprop.timebox(
        "10m", run=run, checkpoint_every=every, model=model, optimizer=optimizer, losses=losses
    ) as box:
        Path(report).write_text(str(box.resumed_from), encoding="utf-8")
        began = len(losses)
        if not began:
            torch.manual_seed(1)
        for _ in box.steps(STEPS):
            chosen = torch.randint(0, 42, (6,))
            losses.append(train_step(model, optimizer, x[chosen], y[chosen]))
            if kill_after is not None and len(losses) - began >= kill_after:
                now.set()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
    Path(report).write_text(digest(state), encoding="utf-8")


@pytest.fixture
def process(tmp_path: Path) -> Any:
    """Starts one training in a fresh process and returns its exit status and its report."""
    context = multiprocessing.get_context(
        "fork"
    )  # torch is imported once, here; a child is a process of its own

    def start(run: str, kill_after: int | None = None, delay_s: float = 0.0) -> tuple[int | None, str]:
        report = tmp_path / "report"
        child = context.Process(
            target=_train, args=(str(tmp_path / "home"), str(report), run, kill_after, delay_s)
        )
        child.start()
        child.join(120)
        return child.exitcode, report.read_text(encoding="utf-8")

    return start


def test_killed_thirty_times_it_resumes_from_the_newest_checkpoint_and_ends_with_the_uncut_bits(
    process: Any, tmp_path: Path
) -> None:
    """Each process begins from the newest committed checkpoint (afresh only before the first); the end is bit for bit."""
    draw = random.Random(30)
    whole = process("whole")[1]
    kills = 0
    begun_from = set()
    for (
        number
    ) in itertools.count():  # a fast machine ends a training before it was killed often enough: then another
        run = f"killed-{number}"
        folder = tmp_path / "home" / "runs" / run / "checkpoints"
        status: int | None = -signal.SIGKILL
        while status == -signal.SIGKILL and kills < KILLS:
            newest = (
                next(iter(CheckpointStore(folder, clock=SYSTEM).list()), None) if folder.exists() else None
            )
            status, made = process(run, draw.randrange(1, 40), draw.random() * 0.06)
            if status == -signal.SIGKILL:
                kills += 1
                assert made == str(None if newest is None else newest.path)
                begun_from.add(made)
        if status == -signal.SIGKILL:
            status, made = process(run)
        assert (status, made) == (0, whole)
        if kills == KILLS:
            break
    assert len(begun_from) > 3, "hardly any checkpoint was ever committed"
