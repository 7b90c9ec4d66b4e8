"""A module of the script's that is first imported in the middle of its training, and keeps state of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import last_line, resumed, whole

METERS = """
import random

random.random()  # which the training draws, and its resume does not draw again

class Meter:
    def __init__(self):
        self.sum, self.parts = 0.0, []

calls, meter = 0, Meter()

def note(value):
    global calls
    calls += 1
    meter.sum += value
    meter.parts.append(value)
    return calls, meter.sum, meter.parts, random.random()
"""

SCRIPT = """
import os, random, signal, sys
import torch
BOX = sys.argv[1] == "box" and "BACKPROP_RUN_ID" in os.environ
if BOX:
    import backprop
torch.manual_seed(0)
random.seed(1)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

def train(epochs, batches):
    steps, told = 0, None
    for epoch in epochs(4):
        for batch in batches([torch.full((3, 2), n / 7) for n in range(6)]):
            optimizer.zero_grad()
            loss = model(batch).square().sum()
            loss.backward()
            optimizer.step()
            steps += 1
            random.random()
            if steps > 7:
                import meters
                told = meters.note(loss.item())
            if os.environ.get("END_AT") == str(steps):
                os.kill(os.getpid(), signal.SIGTERM)
    return told

if BOX:
    with backprop.timebox(model=model, optimizer=optimizer) as box:
        told = train(box.epochs, box.batches)
else:
    told = train(range, list)
print("digest", told, flush=True)
"""


@pytest.mark.long
@pytest.mark.parametrize("form", ["plain", "box"])
def test_it_is_imported_again_and_has_what_it_had(backprop: CommandLine, tmp_path: Path, form: str) -> None:
    """Cut before a look at it, and once more: its numbers, its list and its object come back, and nothing is drawn twice."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    (tmp_path / "meters.py").write_text(METERS)
    uncut = last_line(whole(backprop, script, form))
    for end_at in ("10", "17"):
        backprop.environment["END_AT"] = end_at
        begins = ["run", "--run-id", "cut", "--grace", "0", str(script), "--", form]
        ended = backprop(*(begins if end_at == "10" else ["resume", "cut"]))
        assert "preempted at step" in ended.stderr, ended.stderr
    del backprop.environment["END_AT"]
    done = resumed(backprop, "cut")
    assert last_line(done) == uncut
    assert "Not restored" not in done.stderr
