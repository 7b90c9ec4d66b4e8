"""How long until training begins: an import, a start under the command, a resume, a position far into an epoch.

    python benchmarks/start.py [--turns 7] [--only resume] [--json FILE]

Everything in turns, so that a slow minute of the machine hits all alike; medians, and the median of the turns' differences.

import         processor time of `import backprop`, and with `timebox` used
first line     from the command to the first line of a script that does nothing, bare and under `backprop run`
resume         from the command to the first new step of a small PyTorch training: by itself, reading a checkpoint of its own
               that it does not check, and with `backprop resume`, unmodified
position       until the first batch of an indexed, shuffled loader comes, behind ten batches and behind ten million
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BACKPROP = (sys.executable, "-m", "backprop_cli")
IMPORT = "import time; began = time.process_time(); import backprop; {}; print(time.process_time() - began)"
LINE = "import time; print(time.monotonic(), flush=True)"
TRAINING = """
import os, sys, time, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
optimizer = torch.optim.Adam(model.parameters())
if len(sys.argv) > 1 and os.path.exists(sys.argv[1]):
    saved = torch.load(sys.argv[1], weights_only=True)
    model.load_state_dict(saved["model"]); optimizer.load_state_dict(saved["optimizer"])
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(4096, 256)), batch_size=8, shuffle=True)
for epoch in range(1000):
    for (batch,) in loader:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        if len(sys.argv) > 1 and not os.path.exists(sys.argv[1]):  # whoever hears the time ends this process
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, sys.argv[1])
        print(time.monotonic(), flush=True)
        if len(sys.argv) > 1:
            sys.exit()
        time.sleep(0.01)
"""
POSITION = """
import sys, time, torch
from torch.utils.data import DataLoader, RandomSampler
from backprop_torch.loader_skip import iterator_behind
data = range(10_000_100)
loader = DataLoader(data, batch_size=1, sampler=RandomSampler(data))
began = time.process_time()
next(iterator_behind(loader, int(sys.argv[1])))
print(time.process_time() - began)
"""


def first_number(command: tuple[str, ...], environ: dict[str, str]) -> float:
    """What the command prints first that is a number; then it is ended."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                number = float(line)
            except ValueError:
                continue
            process.terminate()
            process.stdout.read()
            return number
    raise RuntimeError(f"{command} printed no number")


class Starts:
    """The measures, in a home of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {
            **os.environ,
            "BACKPROP_HOME": str(root / "home"),
            "BACKPROP_RUNTIME_DIR": str(root / "runtime"),
        }
        self.environ |= {"BACKPROP_MAX_LOAD": "1000"}  # a crowded machine is measured, too, and said
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have compiled modules, too
        self.environ["PYTHONPYCACHEPREFIX"] = str(root / "compiled")
        self.line, self.training = root / "line.py", root / "training.py"
        self.line.write_text(LINE)
        self.training.write_text(TRAINING)

    def since(self, *command: str) -> float:
        """Seconds from here to the instant that the command prints."""
        began = time.monotonic()
        return first_number(command, self.environ) - began

    def under_the_command(self, script: Path, *more: str) -> float:
        return self.since(*BACKPROP, "run", str(script), "-m", "1", "--min-free-ram", "0", *more)

    def prepare_resume(self) -> None:
        """A run that was stopped in the middle, and a checkpoint of the script's own."""
        bare_s = self.since(sys.executable, str(self.training), str(self.root / "own.pt"))
        box = f"{10 + 5 * bare_s:.0f}s"  # a busy machine imports for long
        run = (*BACKPROP, "run", str(self.training), "-m", box, "--run-id", "r", "--min-free-ram", "0")
        subprocess.run(
            run, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
        )

    def own_resume(self) -> float:
        if not (self.root / "own.pt").exists():
            self.prepare_resume()
        return self.since(sys.executable, str(self.training), str(self.root / "own.pt"))

    def resume(self) -> float:
        return self.since(*BACKPROP, "resume", "r", "-m", "1", "--min-free-ram", "0")

    def printed(self, program: str, *arguments: str) -> float:
        return first_number((sys.executable, "-c", program, *arguments), self.environ)


def pairs(starts: Starts) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
    """Two measures each: the plain one and ours."""
    return {
        "import backprop; with timebox": (
            lambda: starts.printed(IMPORT.format("0")),
            lambda: starts.printed(IMPORT.format("backprop.timebox")),
        ),
        "first line: bare; under run": (
            lambda: starts.since(sys.executable, str(starts.line)),
            lambda: starts.under_the_command(starts.line),
        ),
        "new step: own resume; backprop's": (starts.own_resume, starts.resume),
        "batch 10; batch 10,000,000": (
            lambda: starts.printed(POSITION, "10"),
            lambda: starts.printed(POSITION, "10000000"),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", help="the rows whose names hold this")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        starts = Starts(Path(folder))
        for name, measures in pairs(starts).items():
            if arguments.only and arguments.only not in name:
                continue
            for measure in measures:
                measure()  # compiles modules and fills the page cache
            turns = [[measure() for measure in measures] for _ in range(arguments.turns)]
            plain, ours = (statistics.median(values) for values in zip(*turns, strict=True))
            adds = statistics.median(one[1] - one[0] for one in turns)
            results[name] = {"plain_s": plain, "ours_s": ours, "adds_s": adds, "all_s": turns}
            print(f"{name:<36}{plain:8.3f} s{ours:9.3f} s   adds {adds:+.3f} s", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
