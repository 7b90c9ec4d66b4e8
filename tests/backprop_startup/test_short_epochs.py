"""Epochs too short to remember how each began: the box's last one is remembered all the same."""

from __future__ import annotations

import re

import pytest

from tests.backprop_cli.commandline import CommandLine

SCRIPT = """
import time
import numpy as np
vocabulary = {f"word {i}": i for i in range(25_000)}  # looking through it takes more than 1% of an epoch
w = np.zeros(3)
for epoch in range(1000):
    for batch in range(20):
        w -= 0.1 * (w - batch)
        time.sleep(0.02)
        print(20 * epoch + batch + 1, flush=True)
    vocabulary[f"epoch {epoch}"] = epoch
"""


@pytest.mark.long
def test_a_box_that_ends_inside_a_short_epoch_saves_its_last_step(backprop: CommandLine) -> None:
    """The deadline was taken for a step that hangs: nothing behind the last boundary between two epochs was saved."""
    backprop.script(SCRIPT)
    box = backprop.box(6)
    for words in (["run", "--run-id", "cut", "train.py"], ["resume", "cut"], ["resume", "cut"]):
        done = backprop(words[0], "-m", box, *words[1:])
        assert done.returncode == 0, done.stderr
        stopped = re.search(r"Stopped at step (\d+)", done.stderr)
        assert stopped is not None, done.stderr
        assert stopped[1] == done.stdout.splitlines()[-1], done.stderr
