"""accelerate prepares a new loader in each epoch, and remembers them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import last_line, resumed, whole

SCRIPT = """
import os, signal
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
accelerator = Accelerator(cpu=True)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.Adam(model.parameters(), 0.01)
model, optimizer = accelerator.prepare(model, optimizer)
data = TensorDataset(torch.randn(20, 3))
steps = 0
for epoch in range(4):
    loader = accelerator.prepare(DataLoader(data, batch_size=4, shuffle=True))
    for (x,) in loader:
        optimizer.zero_grad()
        accelerator.backward((model(x) - x.sum(1, keepdim=True)).square().mean())
        optimizer.step()
        steps += 1
        if os.environ.get("END_AT") == str(steps):
            os.kill(os.getpid(), signal.SIGTERM)
print("digest", [one.tolist() for one in model.parameters()], steps, flush=True)
"""


@pytest.mark.long
def test_no_loader_of_an_earlier_epoch_is_missed(backprop: CommandLine, tmp_path: Path) -> None:
    """The bits of the uncut script after two cuts; nothing is named as lost, and nothing as not restored."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    uncut = last_line(whole(backprop, script))
    said = ""
    for end_at, words in (
        ("7", ["run", "--run-id", "cut", "--grace", "0", str(script)]),
        ("13", ["resume", "cut"]),
    ):
        backprop.environment["END_AT"] = end_at
        said += backprop(*words).stderr
    del backprop.environment["END_AT"]
    done = resumed(backprop, "cut")
    assert last_line(done) == uncut
    assert said.count("preempted at step") == 2, said
    assert "cannot be kept" not in said
    assert "Not restored" not in said + done.stderr
