"""Keras beside its stock callbacks: is a box late, what is lost, and what does a step cost with our callback?

    python benchmarks/keras_rows.py                    # 10 boxes and the step costs on each backend
    python benchmarks/keras_rows.py --backends jax --boxes 3

A box is `backprop run` of benchmarks/keras_training.py. Late means that the process was there after the deadline: the
session's last word, and how long the process lived after it as the governor saw. Lost are steps that the last checkpoint
does not hold. `leave s` is the time from the last checkpoint to the session's last word, for which GOVERNED_LEAVE_S in
backprop_keras/training.py stands; `exit s` is the time from there to the end of the process. The peer is a callback that
sets stop_training at the deadline, beside BackupAndRestore(save_freq=50). Its clock begins with the fit, ours with the
process.

`peer_rows` and `boundary_rows` are also called by benchmarks/deadline.py and benchmarks/boundary.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from side_by_side import quantile, show, write

HERE = Path(__file__).parent
SCRIPT = HERE / "keras_training.py"
BACKENDS = ("tensorflow", "torch", "jax")
BUDGETS_S = (15.0, 25.0)
STEPS, FIRST = 220, 20
"""Of a fit whose steps are timed, and the first that counts."""


def _environment(backend: str, home: str) -> dict[str, str]:
    return {
        **os.environ, "BACKPROP_HOME": home, "BACKPROP_RUNTIME_DIR": f"{home}/runtime", "KERAS_BACKEND": backend,
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu",
    }  # fmt: skip


def box(backend: str, number: int, home: str, budgets_s: Sequence[float]) -> dict[str, Any]:
    """One box in real processes, and what its records say."""
    rng = random.Random(number)
    budget_s = rng.uniform(*budgets_s)  # TensorFlow alone takes seconds to import
    run = f"{backend}-{number}"
    command = [
        sys.executable,
        "-m",
        "backprop_cli",
        "run",
        "-m",
        str(budget_s / 60),
        "--run-id",
        run,
        "--no-wait",
    ]
    command += [
        "--min-free-ram",
        "0.1",
        "-p",
        "64",
        str(SCRIPT),
        "--",
        "--units",
        str(rng.choice([64, 512, 1024])),
    ]
    command += ["--step-ms", str(10 ** rng.uniform(0.5, 2.3)), "--seed", str(number)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=_environment(backend, home), check=False, timeout=180
    )
    folder = Path(home) / "runs" / run
    events = folder / "attempts/1/events.jsonl"
    lines = events.read_text().splitlines() if events.exists() else []
    finished = next((e for e in map(json.loads, reversed(lines)) if e["kind"] == "session_finished"), None)
    if not (folder / "run.json").exists():
        raise RuntimeError(f"status {done.returncode}: {done.stderr[-1000:]}")
    attempt = json.loads((folder / "run.json").read_text())["attempts"][-1]
    row: dict[str, Any] = {
        "backend": backend,
        "budget_s": budget_s,
        "status": done.returncode,
        "killed": attempt["exit_status"] == 137,
    }
    if finished is None:
        return {**row, "reason": attempt["reason"]}
    saved = [e for e in map(json.loads, lines) if e["kind"] == "checkpoint_saved"]
    exit_s = attempt["measured"].get("exit_s", 0.0)
    return {
        **row,
        "slack_s": finished["slack_s"] - exit_s,
        "lost": finished["steps"] - max((e["step"] for e in saved), default=0),
        "steps": finished["steps"],
        "step s": finished["measured"]["longest_s"].get("plain"),
        "save s": max((e["seconds"] for e in saved), default=float("nan")),
        "leave s": finished["monotonic"] - saved[-1]["monotonic"] if saved else float("nan"),
        "exit s": exit_s,
        "reason": finished["reason"],
    }


def peer(backend: str, budget_s: float = 20.0) -> dict[str, Any]:
    """stop_training at the deadline and BackupAndRestore, same work."""
    with tempfile.TemporaryDirectory(prefix="backprop-bench-") as folder:
        command = [
            sys.executable,
            str(SCRIPT),
            "--peer",
            folder,
            "--budget",
            str(budget_s),
            "--step-ms",
            "20",
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=_environment(backend, folder),
            check=False,
            timeout=180,
        )
        left = list((Path(folder) / "backup").glob("*"))
        steps, slack_s = json.loads(done.stdout.splitlines()[-1])
    return {
        "peer": f"Keras on {backend}: stop_training + BackupAndRestore", "budget s": budget_s, "slack s": slack_s,
        "last checkpoint": "yes" if left else f"deleted by itself, {steps} steps lost",
    }  # fmt: skip


def peer_rows(backends: Sequence[str] = BACKENDS) -> list[dict[str, Any]]:
    """What Keras itself offers, at a deadline."""
    return [peer(backend) for backend in backends]


def deadline_rows(
    backends: Sequence[str] = BACKENDS,
    boxes: int = 1,
    at_once: int = 1,
    budgets_s: Sequence[float] = BUDGETS_S,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row of our callback for each backend, and the boxes."""
    with (
        tempfile.TemporaryDirectory(prefix="backprop-bench-") as home,
        ThreadPoolExecutor(at_once) as pool,
    ):
        orders = [(backend, number) for number in range(boxes) for backend in backends]
        ours = list(pool.map(lambda order: box(*order, home, budgets_s), orders))
    show("Boxes with Keras", ours)
    rows = []
    for backend in backends:
        here = [row for row in ours if row["backend"] == backend]
        joined = [row for row in here if "steps" in row]
        rows.append(
            {
                "backend": backend,
                "boxes": len(here),
                "joined": len(joined),
                "late": sum(row["slack_s"] < 0 for row in joined),
                "killed": sum(row["killed"] for row in here),
                "slack median s": quantile([row["slack_s"] for row in joined], 0.5),
                "slack least s": min((row["slack_s"] for row in joined), default=""),
                "steps lost at most": max((row["lost"] for row in joined), default=""),
                "leave at most s": max((row["leave s"] for row in joined), default=""),
                "exit at most s": max((row["exit s"] for row in joined), default=""),
            }
        )
    return rows, ours


def boundary_rows(backends: Sequence[str] = BACKENDS, rounds: int = 25) -> list[dict[str, Any]]:
    """Microseconds of a step of a small model: bare, with a stock batch callback, with ours; in turns in one process.

    From batch to batch, as the data sees it: a fit of ours opens a run and saves at its end, which is no part of a step. The
    least of all rounds, because the machine's clock may change by half within a second.
    """
    rows: list[dict[str, Any]] = []
    for backend in backends:
        with tempfile.TemporaryDirectory(prefix="backprop-bench-") as home:
            done = subprocess.run(
                [sys.executable, str(HERE / "keras_rows.py"), "--steps-here", str(rounds)],
                capture_output=True, text=True, env=_environment(backend, home), check=False, timeout=600,
            )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        rows.append({"backend": backend, **json.loads(done.stdout.splitlines()[-1])})
    return rows


def steps_here(rounds: int) -> dict[str, Any]:
    """The figures of `boundary_rows` for the backend of this process."""
    import keras
    import numpy as np

    from backprop_keras import BackpropCallback

    class Stock(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            pass

    model = keras.Sequential(
        [keras.layers.Input((16,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse", jit_compile=keras.backend.backend() == "jax")
    x = np.ones((8, 16), "float32")
    asked: list[float] = []

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        """One batch again and again; notes when it is asked for."""

        def __len__(self) -> int:
            return STEPS

        def __getitem__(self, index: int) -> tuple[object, object]:
            asked.append(time.perf_counter())
            return x, x[:, :1]

    forms = {
        "bare us": list,
        "stock callback us": lambda: [Stock()],
        "BackpropCallback us": lambda: [BackpropCallback("1h", checkpoint_every="1h")],
    }
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds + 1):
        for name, callbacks in forms.items():
            asked.clear()
            model.fit(Batches(), epochs=1, verbose=0, shuffle=False, callbacks=callbacks())
            times[name].append((asked[STEPS - 1] - asked[FIRST]) / (STEPS - 1 - FIRST) * 1e6)
    return {name: min(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--boxes", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=1, help="boxes beside each other")
    parser.add_argument(
        "--budgets", nargs=2, type=float, default=list(BUDGETS_S), help="seconds, from and to"
    )
    parser.add_argument("--only", choices=["boundary", "deadline"])
    parser.add_argument("--steps-here", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps_here is not None:
        print(json.dumps(steps_here(options.steps_here)))
        return
    results: dict[str, Any] = {}
    if options.only != "deadline":
        results["boundary"] = boundary_rows(options.backends)
        show("A step with Keras, in microseconds", results["boundary"])
    if options.only != "boundary":
        began = os.getloadavg()
        rows, boxes = deadline_rows(options.backends, options.boxes, options.at_once, options.budgets)
        results |= {"deadline": rows, "boxes": boxes, "load": [began, os.getloadavg()]}
        show("Boxes with Keras, by backend", rows)
        results["peers"] = peer_rows(options.backends)
        show("What Keras itself offers", results["peers"])
    print(f"\nWritten to {write('keras' + ('-' + options.only if options.only else ''), results)}")


if __name__ == "__main__":
    main()
