"""What the outside of a run costs: the governor while it watches, starting a script under it, listing ten thousand runs.

Prints a table and writes JSON. Ratios and differences are taken side by side, in turns, within one run.

    python benchmarks/governor.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from backprop_core.clock import SYSTEM
from backprop_core.outcome import Outcome
from backprop_core.resources.probes.host import Host
from backprop_core.resources.probes.nvml import Nvml
from backprop_core.runs import experiments
from backprop_core.runs.control import ControlReader, send_control
from backprop_core.runs.events import EventLog
from backprop_core.runs.home import backprop_home
from backprop_core.runs.record import AttemptRecord, ProcessIdentity, RunRecord
from backprop_core.runs.record_json import to_text
from backprop_core.runs.store import RunStore
from backprop_core.testing.nvml import FakeGpu, FakeNvml

RUNS = 10_000
BARE = (sys.executable, "-c", "pass")
BACKPROP = (sys.executable, "-m", "backprop_cli")
NEIGHBOURS = {
    "gpustat": (sys.executable, "-m", "gpustat", "--version"),
    "submitit": (sys.executable, "-c", "import submitit"),
}

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer turns, a shorter watch")
    parser.add_argument("--json", type=Path, default=Path(tempfile.gettempdir()) / "backprop-governor.json")
    arguments = parser.parse_args()
    turns, watch_s = (3, 6.0) if arguments.quick else (11, 30.0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["BACKPROP_RUNTIME_DIR"] = str(root / "runtime")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have compiled modules too
        rows = [
            *listing(root / "many", turns),
            *starting(root / "one", turns),
            *watching(root / "watched", watch_s),
            *parts(root),
        ]
        rows += [
            row(f"CPU time of {' '.join(Path(word).name for word in command)[:32]}", used, "s")
            for command, used in cpu_s.items()
        ]
    show(rows)
    arguments.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    print(f"\nwritten to {arguments.json}")


def listing(home: Path, turns: int) -> list[Row]:
    """`backprop list` over ten thousand runs of all kinds, as a process, beside an interpreter that does nothing."""
    fill(home)
    environ = {**os.environ, "BACKPROP_HOME": str(home)}
    whole, screen, bare = in_turns(
        turns,
        lambda: wall_s((*BACKPROP, "list"), environ),
        lambda: wall_s((*BACKPROP, "list", "--limit", "50"), environ),
        lambda: wall_s(BARE, environ),
    )
    store = RunStore(home, SYSTEM)
    rows_s = [timed(store.list_rows) for _ in range(turns)]
    return [
        row(f"backprop list, {RUNS} runs, all shown", whole, "s", 0.3),
        row(f"backprop list, {RUNS} runs, 50 shown", screen, "s", 0.3),
        row("  of it: an interpreter that does nothing", bare, "s"),
        row("  of it: RunStore.list_rows", rows_s, "s"),
    ]


def starting(home: Path, turns: int) -> list[Row]:
    """What `backprop run` adds to a script that does nothing, and how long commands take to say their version."""
    script = home.with_suffix(".py")
    script.write_text("pass\n", encoding="utf-8")
    environ = {**os.environ, "BACKPROP_HOME": str(home)}
    options = ("--min-free-ram", "0", "--gpu-probe", "none")
    under, bare, version = in_turns(
        turns,
        lambda: wall_s((*BACKPROP, "run", *options, str(script)), environ),
        lambda: wall_s((sys.executable, str(script)), environ),
        lambda: wall_s((*BACKPROP, "--version"), environ),
    )
    added = [u - b for u, b in zip(under, bare, strict=True)]
    found = [
        row("backprop run adds to a script", added, "s", 0.3),
        row("backprop --version", version, "s"),
    ]
    for name, command in NEIGHBOURS.items():
        if shutil.which(command[0]) and wall_s(command, environ) >= 0:
            found.append(row(name, [wall_s(command, environ) for _ in range(turns)], "s"))
        else:
            found.append(row(f"{name} (not installed)", None, "s"))
    return found


def watching(home: Path, watch_s: float) -> list[Row]:
    """CPU time and memory of a governor over a script that prints ten lines a second."""
    script = home.with_suffix(".py")
    script.write_text(
        "import time\nwhile True:\n    print('step', flush=True)\n    time.sleep(0.1)\n", encoding="utf-8"
    )
    environ = {**os.environ, "BACKPROP_HOME": str(home)}
    command = (*BACKPROP, "run", "--min-free-ram", "0", "--grace", "1", str(script))
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    governor = psutil.Process(process.pid)
    SYSTEM.sleep(3.0)  # starting is measured elsewhere
    began, before = SYSTEM.monotonic(), sum(governor.cpu_times()[:2])
    SYSTEM.sleep(watch_s)
    used = (sum(governor.cpu_times()[:2]) - before) / (SYSTEM.monotonic() - began)
    memory = sum(member.memory_info().rss for member in ours(governor))
    process.terminate()
    process.wait(30)
    return [
        row("governor, of one core", used * 100, "%", 0.5),
        row("governor and its keeper, memory", memory / 1e6, "MB", 60),
    ]


def ours(governor: psutil.Process) -> list[psutil.Process]:
    """The governor and those of its children that are not the script."""
    members = [governor]
    for child in governor.children():
        if not any(word.endswith("watched.py") for word in child.cmdline()):
            members.append(child)
    return members


def parts(root: Path) -> list[Row]:
    """Single calls, many times."""
    host, gpus = Host(), Nvml(FakeNvml(*[FakeGpu(uuid=f"GPU-{n}") for n in range(8)]))
    log = EventLog(root / "events.jsonl", SYSTEM)
    send_control(root, "checkpoint")
    reader = ControlReader(root / "control.json")
    reader.poll()
    return [
        row("host reading", each(host.read, 200) * 1e3, "ms"),
        row("NVML reading of 8 fake GPUs", each(gpus.read, 200) * 1e3, "ms"),
        row("control poll", each(reader.poll, 20_000) * 1e6, "us"),
        row("event", each(lambda: log.append("progress", step=1, loss=0.5, rate=3.0), 5_000) * 1e6, "us"),
    ]


def fill(home: Path) -> None:
    """Ten thousand runs: half completed, a third timeboxed, the rest of every other kind."""
    store = RunStore(backprop_home({"BACKPROP_HOME": str(home)}), SYSTEM)
    base = store.create(
        run_id="base", name="a name", command=["train.py"], cwd="/", interpreter="python", options={"a": 1}
    )
    gone = replace(ProcessIdentity.own(), started=1.0)
    entries = {}
    kinds = ["completed"] * 5 + ["timeboxed"] * 3 + ["stopped", "failed"]
    kinds = kinds * 9 + ["preempted", "lost"] * 5
    for number in range(RUNS):
        record = one_run(base, gone, number, Outcome(kinds[number % len(kinds)]))
        folder = store.run_dir(record.id)
        folder.mkdir()
        (folder / "run.json").write_text(to_text(record), encoding="ascii")
        entries[record.id] = experiments.entry_of(record)
    (home / "experiments.json").write_text(json.dumps(entries), encoding="ascii")


def one_run(base: RunRecord, process: ProcessIdentity, number: int, status: Outcome) -> RunRecord:
    began = 1.7e9 + number * 700
    attempt = AttemptRecord(
        1, began, process, began + 600, Outcome(status.value), "The time box was over.", budget_s=600.0
    )
    paths = tuple(f"/runs/{number}/checkpoints/step-{step:012d}" for step in range(3))
    return replace(
        base,
        id=f"20260101-000000-{number:05d}",
        status=status,
        created_wall=began,
        attempts=(attempt,),
        last_step=number,
        last_loss=0.5,
        last_checkpoint=paths[-1],
        checkpoints=paths,
    )


def in_turns(turns: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Each measure `turns` times, in turns, after one turn that does not count."""
    rounds = [[measure() for measure in measures] for _ in range(turns + 1)]
    return [list(column) for column in zip(*rounds[1:], strict=True)]


def wall_s(command: Sequence[str], environ: dict[str, str]) -> float:
    """Seconds that a process takes; negative if it fails. Its CPU time is kept in `cpu_s`."""
    before, began = os.times(), SYSTEM.monotonic()
    done = subprocess.run(command, env=environ, capture_output=True, check=False)
    took, after = SYSTEM.monotonic() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    cpu_s[tuple(command[1:])] = min(used, cpu_s.get(tuple(command[1:]), used))
    return took if done.returncode == 0 else -1.0


cpu_s: dict[tuple[str, ...], float] = {}
"""The least CPU time seen by command: what a machine that others use as well cannot blur."""


def timed(call: Callable[[], object]) -> float:
    began = SYSTEM.monotonic()
    call()
    return SYSTEM.monotonic() - began


def each(call: Callable[[], object], times: int) -> float:
    """Seconds for one of many calls."""
    return timed(lambda: [call() for _ in range(times)]) / times


def row(what: str, measured: Sequence[float] | float | None, unit: str, goal: float | None = None) -> Row:
    """One line; of several measurements the median, beside the best, which a busy machine disturbs less."""
    several = list(measured) if isinstance(measured, Sequence) else None
    value = statistics.median(several) if several else measured if isinstance(measured, float | int) else None
    met = None if goal is None or value is None else 0 <= value <= goal
    best = min(several) if several else None
    return {"what": what, "value": value, "best": best, "unit": unit, "goal": goal, "met": met}


def show(rows: Sequence[Row]) -> None:
    for item in rows:
        value = "-" if item["value"] is None else f"{item['value']:.3g} {item['unit']}"
        goal = (
            "" if item["goal"] is None else f"at most {item['goal']:g}: {'met' if item['met'] else 'MISSED'}"
        )
        print(f"{item['what']:48} {value:>12}  {goal}")


if __name__ == "__main__":
    main()
