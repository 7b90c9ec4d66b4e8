"""What a sudden death costs: trainings that are killed at random moments, and the steps that are lost.

    python benchmarks/sudden_death.py                 # 100 deaths of each kind
    python benchmarks/sudden_death.py --deaths 10     # fewer

Each is `backprop run` of tests/sudden_death/dying_script.py, which kills itself. Lost are the steps between the copy that
was committed and the last one that was finished, and the one that was running. The goal (DESIGN section 13) is one step, or
100 copies' time, whichever is more; a copy is as dear as the session measured it in that run. `behind` is how far the death
was behind the newest copy, in units of that goal: 1 and less keeps it. A death before the first copy is not asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from side_by_side import quantile, show, write

SCRIPT = Path(__file__).parent.parent / "tests" / "sudden_death" / "dying_script.py"
SIGNALS = ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS")
SHAPES = {"40 kB, steps of 20 ms": (40_000, 0.02), "100 MB, steps of 100 ms": (100_000_000, 0.1)}
FREE = {"BACKPROP_MIN_FREE_RAM": "0", "BACKPROP_MAX_PARALLEL": "64", "BACKPROP_MAX_LOAD": "1000"}


def one(signal: str, shape: str, seed: int) -> dict[str, Any]:
    """One death."""
    nbytes, step_s = SHAPES[shape]
    chance = random.Random(seed)
    after, later_s = chance.randrange(int(2 / step_s), int(8 / step_s)), chance.random() * step_s
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        environ = os.environ | FREE | {"BACKPROP_HOME": str(home), "BACKPROP_GPU_PROBE": "none"}
        arguments = [signal, str(after), str(later_s), str(nbytes), str(step_s)]
        command = [
            sys.executable,
            "-m",
            "backprop_cli",
            "run",
            "-m",
            "10",
            "--run-id",
            "dies",
            str(SCRIPT),
            "--",
        ]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=environ, cwd=folder, check=False
        )
        begun = [int(step) for step in re.findall(r"^step (\d+)\s*$", done.stdout, re.MULTILINE)]
        left = sorted((home / "runs/dies/checkpoints").glob("step-*/manifest.json"))
        if not begun or not left:
            return {"saved": False, "said": done.stderr[-300:]}
        manifest = json.loads(left[-1].read_text())
        log = (home / "runs/dies/attempts/1/events.jsonl").read_text().splitlines()
        progress = [row for row in map(json.loads, log) if row["kind"] == "progress" and row.get("rate")]
    real_step_s = 1 / progress[-1]["rate"] if progress else step_s
    lost, copy_s = begun[-1] + 1 - manifest["step"], manifest["extra"]["copy_s"]
    goal_s = max(real_step_s, 100 * copy_s)
    return {
        "saved": manifest["reason"] == "survivor",
        "lost": lost,
        "lost_s": (lost - 1) * real_step_s,  # the running one is lost in any case
        "copy_s": copy_s,
        "behind": (lost - 1) * real_step_s / goal_s,
        "took_s": manifest["save_s"],
    }


def row(signal: str, shape: str, deaths: int, at_once: int) -> dict[str, Any]:
    """One row: a kind of death and a shape of training."""
    with ThreadPoolExecutor(at_once) as pool:
        results = list(pool.map(lambda seed: one(signal, shape, seed), range(deaths)))
    kept = [result for result in results if result["saved"]]
    return {
        "signal": signal,
        "training": shape,
        "deaths": deaths,
        "survived": len(kept),
        "steps lost, median": quantile([float(one["lost"]) for one in kept], 0.5),
        "most": max((one["lost"] for one in kept), default=0),
        "seconds lost, median": quantile([one["lost_s"] for one in kept], 0.5),
        "copy ms": 1e3 * quantile([one["copy_s"] for one in kept], 0.5),
        "behind, median": quantile([one["behind"] for one in kept], 0.5),
        "behind, p95": quantile([one["behind"] for one in kept], 0.95),
        "commit ms": 1e3 * quantile([one["took_s"] for one in kept], 0.5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deaths", type=int, default=100, help="of each kind")
    parser.add_argument("--at-once", type=int, default=2, help="trainings beside each other")
    options = parser.parse_args()
    rows = [row(signal, shape, options.deaths, options.at_once) for shape in SHAPES for signal in SIGNALS]
    show("What a sudden death costs", rows)
    print(f"\nload: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    write("sudden_death", {"load": os.getloadavg(), "rows": rows})


if __name__ == "__main__":
    main()
