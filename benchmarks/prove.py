"""What a proof costs: processor seconds of `backprop prove` beside those of the bare training of the same steps.

Processor time and not the clock's, so that other work on the machine does not count. A start is `backprop run` of the script
without its steps, a bare start the script alone. Two lengths are proven: what a further step costs has no start in it.
Prints a table and writes JSON.

    python benchmarks/prove.py [--steps 60] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CUTS = 4
STARTS = 2 + CUTS + 1
_QUIET = ("--min-free-ram", "0", "--max-load", "1000")
SCRIPT = """
import sys
import torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)
layers = [nn.Linear(512, 1024), nn.ReLU(), nn.Dropout(0.1), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)]
model = nn.Sequential(*layers)
optimizer = torch.optim.AdamW(model.parameters())
data = torch.utils.data.TensorDataset(torch.randn(8192, 512), torch.randint(0, 10, (8192,)))
loader = torch.utils.data.DataLoader(data, batch_size=512, shuffle=True)
count = 0
for epoch in range(1000):
    for x, y in loader:
        if count >= int(sys.argv[1]):
            raise SystemExit
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        count += 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path, default=Path(tempfile.gettempdir()) / "backprop-prove.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(Path(temporary, "work"))
        Path(folder).mkdir()
        Path(folder, "train.py").write_text(SCRIPT)
        bare_start_s = min(bare_s(0, folder) for _ in range(2))
        start_s = min(command_s(folder, "run", "train.py", *_QUIET, "--", "0") for _ in range(2))
        steps = (arguments.steps, 3 * arguments.steps)
        training_s, proofs_s = [], []
        for number in steps:
            training_s.append(bare_s(number, folder) - bare_start_s)
            words = ["prove", "train.py", "-m", "60", "--steps", str(number), *_QUIET, "--", "100000"]
            proofs_s.append(command_s(folder, *words))
    row = {
        "steps": arguments.steps,
        "step_ms": 1e3 * training_s[0] / steps[0],
        "training_s": training_s[0],
        "bare_start_s": bare_start_s,
        "start_s": start_s,
        "proof_s": proofs_s[0],
        "times_the_training": (proofs_s[0] - STARTS * start_s) / training_s[0],
        "with_bare_starts": (proofs_s[0] - STARTS * bare_start_s) / training_s[0],
        "further_steps": (proofs_s[1] - proofs_s[0]) / (training_s[1] - training_s[0]),
    }
    for name, value in row.items():
        print(f"{name:<20} {value:>10.2f}")
    arguments.json.write_text(json.dumps(row))


def bare_s(steps: int, folder: str) -> float:
    """Processor seconds of the script alone."""
    return cpu_s([sys.executable, "train.py", str(steps)], folder)


def command_s(folder: str, *words: str) -> float:
    """Processor seconds of a command of ours."""
    return cpu_s([sys.executable, "-m", "backprop_cli", *words], folder)


def cpu_s(words: Sequence[str], folder: str) -> float:
    """Processor seconds of a command and all that it starts.

    Raises:
        CalledProcessError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    home = {"BACKPROP_HOME": str(Path(folder).with_name("home"))}
    subprocess.run(words, cwd=folder, env={**os.environ, **home}, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
