"""A dataset that asks a generator of its own for each item: a pass that is found again by index makes no item before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import last_line, resumed, whole

SCRIPT = """
import os, signal, sys
import torch
from torch.utils.data import DataLoader, Dataset, Subset
BOX = sys.argv[1] == "box" and "BACKPROP_RUN_ID" in os.environ
if BOX:
    import backprop

def numbers():
    number = 1
    while True:
        number = (number * 7 + 1) % 1009
        yield number

class Numbered(Dataset):
    def __init__(self):
        self.numbers = numbers()
    def __len__(self):
        return 24
    def __getitem__(self, index):
        return torch.tensor([float(index), float(next(self.numbers))])

torch.manual_seed(0)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-7)
loader = DataLoader(Subset(Numbered(), range(20)), batch_size=4, shuffle=True)

def train(epochs, batches):
    steps, seen = 0, []
    for epoch in epochs(4):
        for batch in batches(loader):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
            steps += 1
            seen.append(batch.tolist())
            if os.environ.get("END_AT") == str(steps):
                os.kill(os.getpid(), signal.SIGTERM)
    return seen

if BOX:
    with backprop.timebox(model=model, optimizer=optimizer) as box:
        seen = train(box.epochs, box.batches)
else:
    seen = train(range, iter)
print("digest", model.weight.tolist(), seen, flush=True)
"""


@pytest.mark.long
@pytest.mark.parametrize("form", ["plain", "box"])
def test_its_place_comes_back_or_is_named(backprop: CommandLine, tmp_path: Path, form: str) -> None:
    """An unmodified script has every number of the uncut one; a box of the script's own says that it cannot."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    uncut = last_line(whole(backprop, script, form))
    said = ""
    for end_at in ("7", "13"):
        backprop.environment["END_AT"] = end_at
        begins = ["run", "--run-id", "cut", "--grace", "0", str(script), "--", form]
        ended = backprop(*(begins if end_at == "7" else ["resume", "cut"]))
        assert "preempted at step" in ended.stderr, ended.stderr
        said += ended.stderr
    del backprop.environment["END_AT"]
    done = resumed(backprop, "cut")
    if form == "box":
        assert "`main.loader.dataset.dataset.numbers` (generator) changes during training" in said
    else:
        assert last_line(done) == uncut
        assert "cannot be kept" not in said
