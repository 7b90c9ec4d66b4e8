"""Generators that deal a script's data at random, again and again, while training draws from the same generators; and a file
that is read line by line.
"""

from __future__ import annotations

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import last_line, resumed, whole

SCRIPT = """
import os, random, signal
import torch
torch.manual_seed(0), random.seed(0)
x = torch.randn(12, 4)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
seen, losses, text = [], [], open(__file__)

def step(rows):
    loss = model(x[torch.tensor(list(map(int, rows)))]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    seen.append((list(map(int, rows)), loss.item(), random.random(), text.readline()))
    if os.environ.get("END_AT") == str(len(seen)):
        os.kill(os.getpid(), signal.SIGTERM)
    return loss

def order():
    while True:
        dealt = torch.randperm(12)
        for first in range(0, 12, 4):
            yield dealt[first : first + 4]

def shuffled():
    rows, taken = list(range(12)), []
    while True:
        random.shuffle(rows)
        for row in rows:
            taken.append(row)
            if len(taken) == 4:
                yield taken
                taken.clear()

def both():
    for one, two in zip(order(), shuffled()):
        yield [*one[:2], *two[:2]]

class Trainer:
    def steps(self, count):
        for number, rows in enumerate(order()):
            if number == count:
                return
            yield step(rows).item()

for number, rows in zip(range(8), order()):
    step(rows)
for loss in Trainer().steps(8):
    losses.append(loss)
for number, rows in enumerate(both()):
    if number == 8:
        break
    step(rows)
print("digest", seen, losses, model[0].weight.sum().item(), flush=True)
"""


@pytest.mark.long
def test_the_order_that_they_had_dealt_comes_back(backprop: CommandLine) -> None:
    """Cut in the second and third deal of each loop: the same rows, losses and draws as uncut, and nothing is said."""
    script = backprop.script(SCRIPT)
    uncut = last_line(whole(backprop, script))
    said = ""
    for end_at in ("5", "13", "22"):
        backprop.environment["END_AT"] = end_at
        begins = ["run", "--run-id", "cut", "--grace", "0", str(script)]
        ended = backprop(*(begins if end_at == "5" else ["resume", "cut"]))
        assert "preempted at step" in ended.stderr, ended.stderr
        said += ended.stderr
    del backprop.environment["END_AT"]
    done = resumed(backprop, "cut")
    assert last_line(done) == uncut
    assert "Not restored" not in said + done.stderr
