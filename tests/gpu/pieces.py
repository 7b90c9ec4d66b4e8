"""Trains kinds on a device whole, whole once more, and in pieces; each time in a fresh process, which is never a fork.

    python -m tests.gpu.pieces '{"piece": 0, "orders": {"plain": {"run": "whole"}}}'      (what `run_pieces` starts)

A second whole training tells a device that does not give the same bits twice from a cut that changes them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.backprop_torch.cutting import Cut, cut_points, digest, environment, seed

CUTS = 3
HOW = ("sigterm", "deadline", "control")


def run_pieces(
    kinds: Sequence[str], device: str, folder: Path, *, timeout_s: float = 600.0
) -> dict[str, dict[str, Any]]:
    """By kind: `whole`, `again`, `cut` (digests), `at` (steps of the cuts), `outcomes` of the pieces.

    Raises:
        subprocess.TimeoutExpired, RuntimeError: a process took longer than `timeout_s`, or failed; with what it said.
    """

    def train(orders: Mapping[str, Any], piece: int = 0) -> dict[str, Any]:
        return _train({"piece": piece, "orders": orders}, device, folder, timeout_s)

    whole = train({kind: {"run": f"{kind}-whole"} for kind in kinds})
    again = train({kind: {"run": f"{kind}-again"} for kind in kinds})
    results: dict[str, dict[str, Any]] = {
        kind: {
            "whole": whole[kind]["digest"],
            "again": again[kind]["digest"],
            "at": cut_points(kind, whole[kind]["steps"], CUTS),
            "outcomes": [],
        }
        for kind in kinds
    }
    for piece in range(CUTS + 1):
        orders: dict[str, Any] = {}
        for number, kind in enumerate(kinds):
            orders[kind] = {"run": f"{kind}-cut", "how": HOW[(piece + number) % len(HOW)]}
            if piece < CUTS:
                orders[kind]["at"] = results[kind]["at"][piece]
        for kind, made in train(orders, piece).items():
            results[kind]["outcomes"].append(made["outcome"])
            results[kind]["cut"] = made["digest"]
    return results


def _train(order: Mapping[str, Any], device: str, folder: Path, timeout_s: float) -> dict[str, Any]:
    own = environment(folder) | {"TRAIN_ON": device, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.pieces", json.dumps(order)],
        cwd=Path(__file__).parents[2],
        env=own,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    if done.returncode:
        raise RuntimeError(f"a training ended with status {done.returncode}: {done.stderr[-2000:]}")
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def _on_cpu(value: Any) -> Any:
    """Every tensor of a state in plain memory, for its digest."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(inner) for key, inner in value.items()}
    return [_on_cpu(inner) for inner in value] if isinstance(value, list | tuple) else value


def main() -> None:
    import torch

    from tests.gpu.kinds import KINDS

    torch.use_deterministic_algorithms(True)
    order = json.loads(sys.argv[1])
    made = {}
    for kind, asked in order["orders"].items():
        cut = Cut(asked["run"], asked.get("at"), asked.get("how", "sigterm"), order["piece"])
        seed(1_000 * order["piece"])  # pieces seed differently: a resume must not depend on it
        state = KINDS[kind](cut)
        assert cut.opened is not None
        outcome = str(cut.opened.outcome)
        made[kind] = {"digest": digest(_on_cpu(state)), "outcome": outcome, "steps": len(state["losses"])}
    print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
