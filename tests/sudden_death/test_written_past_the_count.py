"""A training dies whose large tensor is memory of numpy's, written row by row, which no count of changes shows."""

from __future__ import annotations

import random
import signal

import pytest
import torch

from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from backprop_torch.translator import TorchTranslator
from tests.backprop_cli.commandline import CommandLine

SCRIPT = """
    import os, signal, sys, threading, time
    import numpy as np
    import torch
    import backprop

    AFTER, LATER_S, HOW = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    ROWS, WIDTH = 60_000, 256

    class Replay:
        def __init__(self):
            self.rows = np.full((ROWS, WIDTH), -1, np.float32)
            self.shared = torch.from_numpy(self.rows)
            self.other = torch.zeros(ROWS, WIDTH)
            self.count = 0
        def add(self):
            if HOW == "numpy":
                self.rows[self.count] = self.count
                self.other.numpy()[self.count] = self.count
            else:
                self.shared.data[self.count] = self.count
                self.other.detach().data[self.count].copy_(torch.full((WIDTH,), float(self.count)))
            self.count += 1
        def state_dict(self):
            return {"shared": self.shared, "other": self.other, "count": self.count}
        def load_state_dict(self, state):
            self.shared.copy_(state["shared"]); self.other.copy_(state["other"]); self.count = state["count"]

    def die():
        time.sleep(LATER_S)
        os.kill(os.getpid(), signal.SIGKILL)

    replay = Replay()
    with backprop.timebox(replay=replay) as box:
        for step in box.steps(100_000):
            replay.add()
            if step == AFTER:
                threading.Thread(target=die, daemon=True).start()
            time.sleep(0.01)
"""


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["numpy", "data"])
def test_a_death_leaves_the_rows_of_its_step(backprop: CommandLine, how: str) -> None:
    """Killed while copies are first taken again, and later: every row of the survivor is the step's, none is missing."""
    backprop.script(SCRIPT)
    chance = random.Random(how)
    for turn, after in enumerate((chance.randrange(120, 200), chance.randrange(500, 700))):
        run = f"{how}{turn}"
        done = backprop(
            "run", "train.py", "-m", "10", "--run-id", run, "--", str(after), str(chance.random() / 10), how
        )
        assert done.returncode == 128 + signal.SIGKILL, done.stderr
        store = CheckpointStore(backprop.home / "runs" / run / "checkpoints", clock=SYSTEM)
        newest = store.list()[0]
        assert newest.facts.reason.value == "survivor", done.stderr
        state = store.load(newest, (TorchTranslator(), NumpyTranslator())).states["replay"]
        assert isinstance(state, dict)
        assert state["count"] == newest.step
        right = torch.arange(newest.step, dtype=torch.float32).expand(256, -1).T
        for name in ("shared", "other"):
            rows = state[name]
            assert torch.equal(rows[: newest.step], right), f"{name}: rows of step {newest.step} are missing"
