"""What a proof costs: processor seconds of `backprop prove` beside those of the bare training of the same steps.

Processor time and not the clock's, so that other work on the machine does not count. A start is what the script takes
without its steps. Prints a table and writes JSON.

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
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.py").write_text(SCRIPT)
        start_s = cpu_s([sys.executable, "train.py", "0"], folder)
        whole_s = cpu_s([sys.executable, "train.py", str(arguments.steps)], folder)
        words = ["prove", "train.py", "-m", "60", "--min-free-ram", "0", "--steps", str(arguments.steps)]
        proof_s = cpu_s([sys.executable, "-m", "backprop_cli", *words, "--", "100000"], folder)
    training_s = whole_s - start_s
    row = {
        "steps": arguments.steps,
        "training_s": training_s,
        "start_s": start_s,
        "proof_s": proof_s,
        "times_the_training": (proof_s - STARTS * start_s) / training_s,
    }
    for name, value in row.items():
        print(f"{name:<20} {value:>10.2f}")
    arguments.json.write_text(json.dumps(row))


def cpu_s(words: Sequence[str], folder: str) -> float:
    """Processor seconds of a command and all that it starts.

    Raises:
        CalledProcessError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=folder, env={**os.environ, "BACKPROP_MAX_LOAD": "1000"}, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
