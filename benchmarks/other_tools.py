"""The same box with `backprop run` and with what else saves a training: transformers, submitit, composer.

    python benchmarks/other_tools.py                        # every tool that is installed
    python benchmarks/other_tools.py --only transformers --rounds 3

Every tool trains in its own process, with steps of 50 ms and an Adam state of a chosen size, and is killed at the end of
the box: by timeout(1), by submitit's own controller, or by our governor. Each gets what it needs to save in time:

backprop        `backprop run -m BOX`, on the transformers script as it is
transformers    `enable_jit_checkpoint`, with SIGTERM five seconds before the end (it waits three seconds before it saves)
submitit        the local executor, a `checkpoint` method that saves, and `signal_delay_s=5`
composer        `autoresume` with a checkpoint every 60 batches (3 s); it knows no deadline

unused     seconds of the box after the last complete step
lost       steps that are not in the newest complete checkpoint
early      seconds from the end of the process to the deadline; about 0 is killed at it

A tool that is not installed is named and skipped. `OTHER_PYTHON=/path/to/python` runs composer and submitit in another
environment.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from side_by_side import quantile, show, write

HERE = Path(__file__).parent
TRAIN = HERE / "other_trainings.py"
LEAD_S = 5
TOOLS = ("backprop", "transformers", "submitit", "composer")


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "BACKPROP_HOME": str(folder / "home"),
        "BACKPROP_RUNTIME_DIR": str(folder / "runtime"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _other_python() -> str:
    return os.environ.get("OTHER_PYTHON", sys.executable)


def _timeout(box_s: float, lead_s: float, command: list[str], folder: Path) -> None:
    """Under timeout(1): SIGTERM `lead_s` before the end, or SIGKILL at it."""
    ends = (
        ["timeout", "--signal=TERM", f"--kill-after={lead_s}", str(box_s - lead_s)]
        if lead_s
        else ["timeout", "--signal=KILL", str(box_s)]
    )
    with (folder / "output.txt").open("w") as output:
        subprocess.run(
            [*ends, *command], env=_environment(folder), cwd=folder, stdout=output, stderr=output, check=False
        )


def run_backprop(box_s: float, state_mb: float, folder: Path) -> None:
    command = [sys.executable, "-m", "backprop_cli", "run", "-m", f"{box_s}s", "--run-id", "box", "--no-wait"]
    command += ["--min-free-ram", "0.1", "--max-load", "1000", "-p", "64", str(TRAIN)]
    with (folder / "output.txt").open("w") as output:
        subprocess.run(
            [*command, "--", "transformers", str(state_mb), str(folder), "--plain"],
            env=_environment(folder),
            cwd=folder,
            stdout=output,
            stderr=output,
            check=False,
        )


def run_transformers(box_s: float, state_mb: float, folder: Path) -> None:
    _timeout(box_s, LEAD_S, [sys.executable, str(TRAIN), "transformers", str(state_mb), str(folder)], folder)


def run_submitit(box_s: float, state_mb: float, folder: Path) -> None:
    command = [_other_python(), str(TRAIN), "submitit", str(state_mb), str(folder), "--box", str(box_s)]
    with (folder / "output.txt").open("w") as output:
        subprocess.run(
            command, env=_environment(folder), cwd=folder, stdout=output, stderr=output, check=False
        )


def run_composer(box_s: float, state_mb: float, folder: Path) -> None:
    _timeout(box_s, 0, [_other_python(), str(TRAIN), "composer", str(state_mb), str(folder)], folder)


RUN: dict[str, Callable[[float, float, Path], None]] = {
    "backprop": run_backprop,
    "transformers": run_transformers,
    "submitit": run_submitit,
    "composer": run_composer,
}


def _saved_step(tool: str, folder: Path) -> int | None:
    """The step of the newest whole checkpoint, as the tool's own resume finds it; None where there is none."""
    if tool == "backprop":
        found = sorted((folder / "home/runs/box/checkpoints").glob("step-*/manifest.json"))
        return int(found[-1].parent.name.removeprefix("step-")) if found else None
    command = [_other_python() if tool in ("submitit", "composer") else sys.executable, str(TRAIN)]
    done = subprocess.run(
        [*command, tool, "0", str(folder), "--saved-step"],
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    word = done.stdout.split()[-1] if done.stdout.split() else "None"
    return int(word) if word.isdigit() else None


def box(tool: str, state_mb: float, box_s: float) -> dict[str, Any]:
    """One box of a tool, and what became of it."""
    with tempfile.TemporaryDirectory(prefix="backprop-bench-") as name:
        folder = Path(name)
        began = time.time()
        RUN[tool](box_s, state_mb, folder)
        ended = time.time()
        heard = folder / "steps.txt"
        if not heard.exists():
            raise RuntimeError(f"{tool} did not train: {(folder / 'output.txt').read_text()[-1500:]}")
        last, at = heard.read_text().split()[-1].split(",")
        saved = _saved_step(tool, folder)
    return {
        "tool": tool,
        "state MB": state_mb,
        "box s": box_s,
        "early s": box_s - (ended - began),
        "unused s": box_s - (float(at) - began),
        "steps": int(last),
        "lost": int(last) - (saved or 0),
        "saved": saved is not None,
    }


def installed(tool: str) -> bool:
    if tool == "backprop":
        return True
    python = _other_python() if tool in ("submitit", "composer") else sys.executable
    looked = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({tool!r}) is None)"
    return subprocess.run([python, "-c", looked], check=False).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=TOOLS, action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--box", type=float, default=30.0, help="seconds")
    parser.add_argument("--sizes", default="30,300", help="MB of state")
    options = parser.parse_args()
    rows, boxes = [], []
    tools = list(options.only or TOOLS)
    for tool in [tool for tool in tools if not installed(tool)]:
        print(f"{tool} is not installed here: not measured.")
        tools.remove(tool)
    for size in map(float, options.sizes.split(",")):
        turns = [[box(tool, size, options.box) for tool in tools] for _ in range(options.rounds)]
        for one in zip(*turns, strict=True):
            boxes += one
            rows.append(
                {
                    "tool": one[0]["tool"],
                    "state MB": size,
                    "box s": options.box,
                    **{
                        key: quantile([row[key] for row in one], 0.5)
                        for key in ("early s", "unused s", "steps", "lost")
                    },
                    "lost at most": max(row["lost"] for row in one),
                    "saved": f"{sum(row['saved'] for row in one)} of {len(one)}",
                }
            )
    load = os.getloadavg()[0]
    show(f"The same box, median of {options.rounds}, load {load:.1f}", rows)
    print(f"\nWritten to {write('other_tools', {'load': load, 'rows': rows, 'boxes': boxes})}")


if __name__ == "__main__":
    main()
