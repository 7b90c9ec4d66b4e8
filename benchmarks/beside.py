"""This checkout beside an older one: what a boundary, a save and a start cost in each, in turns, as ratios.

    python benchmarks/beside.py REV [--turns 9] [--only save] [--json FILE]

Each figure comes from a process of its own that uses only what users write. The two checkouts take turns, each turn
beginning with the other one, so that a slow minute of the machine hits both alike; what counts is the median of the turns'
own ratios, in brackets the ratio of the best turns. REV is unpacked into a temporary folder and announced by its own entry
points; the libraries are those of this environment. 1.00 is no change, less is quicker now.

box.steps, box.step(), a counted loop   processor time of an iteration
import                                  processor time of `import backprop` and a time box opened and closed
save                                    wall time of leaving a block: 100 MB of PyTorch state, saved and verified on the disk
first line                              wall time from `backprop run` to the first line of a script
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from side_by_side import show

ROOT = Path(__file__).resolve().parents[1]
_BOX = "import sys, time, backprop\nn = 300_000\n"
_LEAST = """
best = 1e9
for turn in range(7):
    began = time.process_time()
    {loop}
    best = min(best, (time.process_time() - began) / n)
print(best)
"""
_IN_A_BOX = 'with backprop.timebox("1h", checkpoint_every="1h") as box:\n    {}'
PROGRAMS = {
    "box.steps": _BOX
    + _IN_A_BOX.format(
        _LEAST.format(loop="for _ in box.steps(n): pass")
        .replace("\n", "\n    ")
        .replace("range(7)", "range(1)")
    ),
    "box.step()": _BOX
    + _IN_A_BOX.format(_LEAST.format(loop="for _ in range(n): box.step()").replace("\n", "\n    ")),
    "import": (
        "import time; began = time.process_time(); import backprop\n"
        "with backprop.timebox('1h'): pass\nprint(time.process_time() - began)\n"
    ),
    "save": """
import time, torch, backprop
model = torch.nn.Sequential(*[torch.nn.Linear(1180, 1180) for _ in range(6)])
optimizer = torch.optim.Adam(model.parameters())
with backprop.timebox("1h", checkpoint_every="1h", model=model, optimizer=optimizer) as box:
    for step in box.steps(2):
        optimizer.zero_grad()
        model(torch.ones(1, 1180)).sum().backward()
        optimizer.step()
    began = time.monotonic()
print(time.monotonic() - began)
""",
}
"""By name: a program whose last line is its figure, in seconds."""
SCRIPTS = {
    "a counted loop": """
import time
import numpy
n, total, best = 200_000, numpy.zeros(1), 1e9
for turn in range(3):
    began = time.process_time()
    for i in range(n):
        total = i
    best = min(best, (time.process_time() - began) / n)
print(best, flush=True)
""",
    "first line": "import os, time\nprint(time.monotonic() - float(os.environ['BEGAN']), flush=True)\n",
}
"""The same for scripts under `backprop run`."""


class Checkout:
    """One version, whose processes take their packages and entry points from its folder."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.scratch = scratch
        scratch.mkdir()
        self._announce(folder, scratch / "announced")
        self.environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(scratch / "announced"), str(folder))),
            "PYTHONPYCACHEPREFIX": str(scratch / "compiled"),
            "BACKPROP_RUNTIME_DIR": str(scratch / "runtime"),
            "BACKPROP_MAX_LOAD": "1000",
            "BACKPROP_MIN_FREE_RAM": "0",
            "OMP_NUM_THREADS": "1",
        }
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)

    @staticmethod
    def _announce(folder: Path, place: Path) -> None:
        """Write the entry points of its pyproject.toml where they are found before the installed ones."""
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        facts = place / "backprop-0.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n")
        lines = []
        for group, points in project.get("entry-points", {}).items():
            lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
        (facts / "entry_points.txt").write_text("\n".join(lines) + "\n")

    def measure(self, name: str) -> float:
        """One figure, in seconds."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as home:
            environ = {**self.environ, "BACKPROP_HOME": home}
            if name in PROGRAMS:
                command = [sys.executable, "-c", PROGRAMS[name]]
            else:
                script = Path(home) / "script.py"
                script.write_text(SCRIPTS[name])
                command = [sys.executable, "-m", "backprop_cli", "run", "-m", "10", str(script)]
                environ["BEGAN"] = repr(_now())
            done = subprocess.run(command, env=environ, cwd=home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
        return float(done.stdout.split()[-1])


def _now() -> float:
    import time

    return time.monotonic()


def unpacked(revision: str, into: Path) -> Path:
    """The files of a revision of this repository."""
    into.mkdir()
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(into)], input=archive, check=True)
    return into


def compared(before: Checkout, now: Checkout, name: str, turns: int) -> dict[str, Any]:
    """One figure of both, in turns; the first of each compiles modules and fills the page cache."""
    pair = {"before": before, "now": now}
    for checkout in pair.values():
        checkout.measure(name)
    seconds: dict[str, list[float]] = {"before": [], "now": []}
    for turn in range(turns):
        for which in ("before", "now") if turn % 2 else ("now", "before"):
            seconds[which].append(pair[which].measure(name))
    ratios = [b / a for a, b in zip(seconds["before"], seconds["now"], strict=True)]
    return {
        "what": name,
        "before": statistics.median(seconds["before"]),
        "now": statistics.median(seconds["now"]),
        "ratio": statistics.median(ratios),
        "of the best": min(seconds["now"]) / min(seconds["before"]),
        "all": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("revision", metavar="REV")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--only", default="", help="the rows whose names hold this")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="beside-") as folder:
        scratch = Path(folder)
        before = Checkout(unpacked(arguments.revision, scratch / "old"), scratch / "before")
        now = Checkout(ROOT, scratch / "now")
        names = [name for name in (*PROGRAMS, *SCRIPTS) if arguments.only in name]
        rows = [compared(before, now, name, arguments.turns) for name in names]
    load = os.getloadavg()[0]
    show(
        f"Seconds at {arguments.revision} and now, load {load:.1f}",
        [{key: value for key, value in row.items() if key != "all"} for row in rows],
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"load": load, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
