"""A script that deals its data at random and seeds nothing is told, when a time box of its own resumes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backprop_core.session.unseeded_script import drawn_unseeded


@pytest.mark.parametrize(
    ("text", "dealt"),
    [
        ("import random\nrandom.shuffle(files)\nrandom.seed(0)", []),
        ("import random, torch\nrandom.shuffle(files)\ntorch.manual_seed(0)", ["shuffle"]),
        ("from torch.utils.data import random_split as deal\ndeal(data, [8, 2])", ["random_split"]),
        ("from torch.utils import data\ndata.random_split(x, [8, 2], generator=None)", ["random_split"]),
        ("from torch.utils import data\ndata.random_split(x, [8, 2], generator=mine)", []),
        ("import torch\ntorch.utils.data.random_split(x, [8, 2], mine)", []),
        ("import numpy as np\nnp.random.permutation(10)\nnp.random.rand(3)", ["permutation", "rand"]),
        ("import numpy as np\nnp.random.default_rng(0).shuffle(x)", []),
        ("from sklearn.model_selection import *\nfrom sklearn.model_selection import KFold\nKFold(5)", []),
        ("from sklearn.model_selection import KFold\nKFold(5, shuffle=True)", ["KFold"]),
        ("import sklearn.model_selection as s\ns.train_test_split(x, random_state=0)", []),
        ("import sklearn.model_selection as s\ns.train_test_split(x, shuffle=False)", []),
        ("import numpy, sklearn.utils\nnumpy.random.seed(0)\nsklearn.utils.shuffle(x)", []),
        ("import random, keras\nkeras.utils.set_random_seed(0)\nrandom.shuffle(x)", []),
        ("from helpers import fix_seeds\nimport random\nfix_seeds()\nrandom.shuffle(x)", []),
        ("from torch.utils.data import DataLoader\nDataLoader(data, shuffle=True)", []),
        (
            "import random, numpy\nrandom.shuffle(a)\nnumpy.random.shuffle(b)\nnumpy.random.seed(0)",
            ["shuffle"],
        ),
        ("policy.sample()\nshuffle(x)\nmine().choice(x)", []),
        ("import random\nrandom.shuffle(files", []),
    ],
)
def test_what_a_script_draws_without_a_seed(tmp_path: Path, text: str, dealt: list[str]) -> None:
    """Calls by which data is dealt, if no file of the script's seeds their generator and they are given none."""
    script, other = tmp_path / "script.py", tmp_path / "other.py"
    script.write_text(text)
    other.write_text("print(len([]))")
    assert drawn_unseeded([str(script), str(other), str(tmp_path / "gone.py")]) == dealt
    other.write_text("seed_everything(1)")
    assert drawn_unseeded([str(script), str(other)]) == []


SCRIPT = """
import os, signal
import torch
import backprop
SEED
data = torch.utils.data.TensorDataset(torch.arange(20.0).reshape(20, 1))
training, _ = torch.utils.data.random_split(data, [16, 4])
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
with backprop.timebox("5m", run="mine", grace=0):
    for epoch in range(2):
        for number, (x,) in enumerate(torch.utils.data.DataLoader(training, batch_size=4)):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            if number == 2 and os.environ.get("ENDS"):
                os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("seeded", [False, True])
def test_a_time_box_of_its_own_says_so_on_a_resume(tmp_path: Path, seeded: bool) -> None:
    """Not in the first attempt, and never to a script that seeds."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("SEED", "torch.manual_seed(0)" if seeded else ""))
    said = []
    for ends in ({"ENDS": "1"}, {}):
        environment = {**os.environ, **ends, "BACKPROP_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, str(script)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        said.append(done.stderr)
    assert "resumed from step 3" in said[1], said
    assert ["calls random_split without a seed" in text for text in said] == [
        False,
        not seeded,
    ]
