"""Is a box ever late, and how much of it stays unused? Simulated boxes by the thousand, and real processes.

    python benchmarks/deadline.py                 # 10,000 simulated and 100 real boxes
    python benchmarks/deadline.py --real 20       # fewer real ones
    python benchmarks/deadline.py --text 10       # also ten boxes of 15 s of the text example
    python benchmarks/deadline.py --peers         # also timeout(1) and what Lightning and Keras offer themselves, same work

A real box is `backprop run` of benchmarks/boxed_training.py. Late means that the process was there after the deadline: the
session's last word, and how long the process lived after it as the governor saw. A process that was ended before its box was
open (torch was still being imported) counts as not joined. Slack is the time from the end to the deadline. What is unused
beyond two of the longest recent steps, a quarter of a save and half a second counts as wasted (DESIGN section 10).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from side_by_side import quantile, show, write

HERE = Path(__file__).parent
SCRIPT = HERE / "boxed_training.py"


def simulated(count: int) -> list[dict[str, Any]]:
    """One row for each kind of step time."""
    sys.path.insert(0, str(HERE.parent))
    from tests.backprop_core.deadline import test_deadline_simulation as kinds

    rows = []
    all_kinds = kinds.SMOOTH + kinds.ROUGH
    for steps in all_kinds:
        endings = [kinds.box(steps, seed) for seed in range(count // len(all_kinds))]
        unused = [ending.unused_s for ending in endings]
        rows.append(
            {
                "steps": steps.__name__,
                "boxes": len(endings),
                "late": sum(ending.late for ending in endings),
                "wasted": sum(e.unused_s > kinds.unused_allowed_s(e) for e in endings)
                if steps in kinds.SMOOTH
                else "",
                "slack median s": quantile(unused, 0.5),
                "slack p95 s": quantile(unused, 0.95),
                "steps lost p95": quantile([float(e.steps - e.saved_step) for e in endings], 0.95),
                "used": quantile([1 - e.unused_s / e.budget_s for e in endings], 0.5),
            }
        )
    return rows


def real_box(number: int, home: str, spikes: float) -> dict[str, Any]:
    """One box in real processes, and what the records say of it."""
    rng = random.Random(number)
    budget_s = rng.uniform(3.0, 20.0)
    state_mb = 10 ** rng.uniform(0.0, 2.7)
    step_ms = 10 ** rng.uniform(0.7, 2.5)
    jitter = rng.choice([0.05, 0.3, 0.7])
    work = ["--state-mb", str(state_mb), "--step-ms", str(step_ms), "--jitter", str(jitter)]
    row = boxed(f"box-{number}", home, budget_s, [*work, "--spikes", str(spikes), "--seed", str(number)])
    drawn = {"box": number, "budget_s": budget_s, "state_mb": state_mb, "step_ms": step_ms, "jitter": jitter}
    return drawn | row


def boxed(run: str, home: str, budget_s: float, work: list[str]) -> dict[str, Any]:
    """`backprop run` of the training, and what the records say of it."""
    command = [sys.executable, "-m", "backprop_cli", "run", "-m", str(budget_s / 60), "--run-id", run]
    command += ["--no-wait", "--min-free-ram", "0.1", "-p", "64", str(SCRIPT), "--", *work]
    environment = {
        **os.environ,
        "BACKPROP_HOME": home,
        "BACKPROP_RUNTIME_DIR": f"{home}/{run}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    folder = Path(home) / "runs" / run
    row: dict[str, Any] = {"status": done.returncode}
    events = _events(folder / "attempts/1/events.jsonl")
    started = next((e for e in events if e["kind"] == "session_started"), None)
    finished = next((e for e in reversed(events) if e["kind"] == "session_finished"), None)
    record = json.loads((folder / "run.json").read_text())
    attempt = record["attempts"][-1]
    row |= {
        "slack_s": budget_s - (attempt["ended_wall"] - attempt["started_wall"]),
        "outcome": attempt["outcome"],
        "joined": started is not None,
    }
    if finished is not None:
        row["slack_s"] = finished["slack_s"] - attempt["measured"].get("exit_s", 0.0)
        row["killed"] = attempt["exit_status"] == 137
        longest_s = finished["measured"]["longest_s"].get("plain", 0.0)
        saves = finished["measured"]["saves"]
        row |= {
            "steps": finished["steps"],
            "longest_step_s": longest_s,
            "save_s": saves[-1][1] if saves else None,
        }
        row["allowed_s"] = 2 * longest_s + (max(s for _, s in saves) / 4 if saves else 0.0) + 0.5
    row["checkpoint"] = bool(list((folder / "checkpoints").glob("step-*/manifest.json")))
    subprocess.run(["rm", "-rf", str(folder / "checkpoints")], check=False)
    return row


def text_box(number: int, home: str, minutes: float = 0.25) -> dict[str, Any]:
    """The text example under `backprop run`: how long it trained, and whether it was late."""
    run = f"text-{number}"
    command = [sys.executable, "-m", "backprop_cli", "run", "-m", str(minutes), "--run-id", run, "--no-wait"]
    command += ["--min-free-ram", "0.1", str(HERE.parent / "examples/text_pytorch.py")]
    environment = {**os.environ, "BACKPROP_HOME": home, "BACKPROP_RUNTIME_DIR": f"{home}/{run}"}
    subprocess.run(command, capture_output=True, env=environment, check=False, timeout=120)
    folder = Path(home) / "runs" / run
    events = {event["kind"]: event for event in _events(folder / "attempts/1/events.jsonl")}
    attempt = json.loads((folder / "run.json").read_text())["attempts"][-1]
    left_s = events["session_started"]["deadline_wall"] - events["stopping"]["wall"]
    slack_s = events["session_finished"]["slack_s"] - attempt["measured"].get("exit_s", 0.0)
    return {
        "run": run,
        "steps": events["session_finished"]["steps"],
        "trained until": 1 - left_s / (minutes * 60),
        "slack_s": slack_s,
        "late": slack_s < 0,
        "killed": attempt["exit_status"] == 137,
    }


def _events(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    joined = [row for row in rows if row["joined"] and "allowed_s" in row]
    slack = [row["slack_s"] for row in joined]
    return {
        "boxes": len(rows),
        "joined": len(joined),
        "late": sum(row["slack_s"] < 0 for row in joined),
        "killed": sum(bool(row.get("killed")) for row in joined),
        "without checkpoint": sum(not row["checkpoint"] for row in joined),
        "wasted": sum(row["slack_s"] > row["allowed_s"] for row in joined),
        "slack median s": quantile(slack, 0.5),
        "slack p95 s": quantile(slack, 0.95),
        "in steps, median": quantile(
            [r["slack_s"] / r["longest_step_s"] for r in joined if r["longest_step_s"]], 0.5
        ),
        "in saves, median": quantile([r["slack_s"] / r["save_s"] for r in joined if r.get("save_s")], 0.5),
        "used median": quantile([1 - r["slack_s"] / r["budget_s"] for r in joined], 0.5),
    }


def peers() -> list[dict[str, Any]]:
    """The same work in our box, under timeout(1), and, where they are installed, with what Lightning and Keras offer."""
    rows = []
    for state_mb, step_ms, budget_s in ((30, 50, 8.0), (300, 50, 12.0)):
        work = ["--state-mb", str(state_mb), "--step-ms", str(step_ms)]
        size = {"state MB": state_mb, "budget s": budget_s}
        with tempfile.TemporaryDirectory(prefix="backprop-bench-") as folder:
            ours = boxed("ours", folder, budget_s, work)
            rows.append(
                {"peer": "backprop run", **size, "slack s": ours["slack_s"], "last checkpoint": "of the end"}
            )
            saved = Path(folder) / "saved.pt"
            began, began_wall = time.monotonic(), time.time()
            subprocess.run(["timeout", str(budget_s), sys.executable, str(SCRIPT), *work, "--save-to", str(saved)],
                           capture_output=True, check=False)  # fmt: skip
            end_s = time.monotonic() - began
            lost_s = budget_s - (saved.stat().st_mtime - began_wall) if saved.exists() else budget_s
            rows.append({"peer": "timeout(1), torch.save every 3 s", **size, "slack s": budget_s - end_s,
                         "last checkpoint": f"{lost_s:.1f} s of training lost"})  # fmt: skip
    if importlib.util.find_spec("pytorch_lightning") is not None:
        import lightning_rows

        rows += lightning_rows.deadline_rows()
    if importlib.util.find_spec("keras") is not None:
        import keras_rows

        rows += keras_rows.peer_rows()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulated", type=int, default=10_000)
    parser.add_argument("--real", type=int, default=100)
    parser.add_argument(
        "--spikes", type=float, default=0.0, help="share of real steps that take 20 times as long"
    )
    parser.add_argument("--at-once", type=int, default=1, help="real boxes beside each other")
    parser.add_argument("--text", type=int, default=0, help="boxes of 15 s of examples/text_pytorch.py")
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if options.simulated:
        results["simulated"] = simulated(options.simulated)
        show("Simulated boxes", results["simulated"])
    if options.real:
        with (
            tempfile.TemporaryDirectory(prefix="backprop-bench-") as home,
            ThreadPoolExecutor(options.at_once) as pool,
        ):
            rows = list(pool.map(lambda number: real_box(number, home, options.spikes), range(options.real)))
        results["real"] = {"summary": summary(rows), "boxes": rows}
        show("Real boxes", [results["real"]["summary"]])
        odd = [
            r for r in rows if r["slack_s"] < 0 or not r["joined"] or r["slack_s"] > r.get("allowed_s", 1e9)
        ]
        show("Boxes that were late, never joined, or wasted time", odd)
    if options.text:
        with tempfile.TemporaryDirectory(prefix="backprop-bench-") as home:
            texts = [text_box(number, home) for number in range(options.text)]
        results["text"] = texts
        show("examples/text_pytorch.py in boxes of 15 s", texts)
        print(
            f"  on average trained until {sum(t['trained until'] for t in texts) / len(texts):.1%} of the box"
        )
    if options.peers:
        results["peers"] = peers()
        show("Peers, same work", results["peers"])
    print(f"\nWritten to {write('deadline', results)}")


if __name__ == "__main__":
    main()
