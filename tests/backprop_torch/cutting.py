"""Trains kinds of loops whole and cut into pieces, each piece in a fresh process, and compares digests.

A kind is a function `train(cut) -> state`. It opens its box through `cut.box(...)` and tells `cut.reached(n)` in every step
how many steps are done; where its cut lies, the box is asked to stop: by SIGTERM, by Ctrl-C, by the control file, or by
the deadline. One process trains many kinds one after another, each a run of its own, because importing torch takes longer
than all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import backprop
from backprop_core.clock import SYSTEM
from backprop_core.loop.timebox import TimeBox
from backprop_core.runs.control import Action, send_control
from backprop_core.session.settings import make_settings

CUTS = 5
HOW = ("sigterm", "deadline", "ctrl-c", "control", "sigterm")
"""How the pieces end, in order."""


class LeapingClock:
    """The real clock, which can be moved on. How far is in the environment, under a name that no checkpoint brings back."""

    def leap(self, seconds: float) -> None:
        os.environ["PYTEST_LEAPT_S"] = str(self._leapt_s + seconds)

    @property
    def _leapt_s(self) -> float:
        return float(os.environ.get("PYTEST_LEAPT_S", "0"))

    def monotonic(self) -> float:
        return SYSTEM.monotonic() + self._leapt_s

    def wall(self) -> float:
        return SYSTEM.wall() + self._leapt_s

    def asleep_s(self) -> float:
        return SYSTEM.asleep_s()

    def sleep(self, seconds: float) -> None:
        SYSTEM.sleep(seconds)

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        return SYSTEM.wait(event, timeout_s)


class Cut:
    """Where and how one piece of a training ends.

    Attributes:
        at: the step after which it is asked to stop, or None: it runs to its end.
        how: one of `HOW`.
        run: the run's id.
        piece: 0 for the first process.
    """

    def __init__(self, run: str, at: int | None = None, how: str = "sigterm", piece: int = 0) -> None:
        self.run, self.at, self.how, self.piece = run, at, how, piece
        self.opened: TimeBox | None = None
        self._clock = LeapingClock()

    def box(self, **keywords: Any) -> TimeBox:
        """`backprop.timebox` of this run, on a clock that can leap. Later pieces get more time, since each learns from the
        earlier ones how long a step may take, and the leap is a part of a step.
        """
        budget = 300.0 * 3**self.piece
        objects = {k: v for k, v in keywords.items() if k not in ("checkpoint_every", "keep", "resume")}
        asked = {k: v for k, v in keywords.items() if k not in objects}
        # every option has an equal on the public function; only the clock has not
        settings = make_settings(budget=budget, run=self.run, grace=0, **asked)
        self.opened = TimeBox(settings, objects, self._clock)
        return self.opened

    def reached(self, steps: int) -> None:
        """Told in every step how many are done."""
        if steps == self.at:
            self.strike()

    def strike(self) -> None:
        """Ask the box to stop, the way this piece is to end."""
        if self.how == "sigterm":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.how == "ctrl-c":
            os.kill(os.getpid(), signal.SIGINT)
        elif self.how == "deadline":
            self._clock.leap(300.0 * 3**self.piece)
        elif self.how == "control":
            assert self.opened is not None
            attempt = self.opened._running().enrolment.attempt
            send_control(attempt.directory, Action.STOP)
            self._clock.leap(1)  # the file is read four times a second at most
        elif self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)


def seed(number: int) -> None:
    """Seed every global generator. Pieces seed differently: a resume must not depend on it."""
    import numpy as np
    import torch

    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def digest(value: object) -> str:
    """SHA-256 over a state: every bit of every tensor, array and number, with keys, types and shapes."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    sha.update(type(value).__name__.encode() + b":")
    if torch is not None and isinstance(value, torch.Tensor):
        _feed_tensor(sha, value.detach())
    elif numpy is not None and isinstance(value, numpy.ndarray):
        sha.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _feed(sha, key)
            _feed(sha, item)
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(sha, item)
    elif isinstance(value, set | frozenset):
        _feed(sha, sorted(value, key=repr))
    elif isinstance(value, float):
        sha.update(struct.pack("<d", value))
    else:
        sha.update(repr(value).encode() + b";")


def _feed_tensor(sha: Any, tensor: Any) -> None:
    import torch

    if tensor.layout is torch.sparse_coo:
        _feed(sha, [tensor._indices(), tensor._values(), tuple(tensor.shape)])
        return
    sha.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    flat = tensor.contiguous().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat.resolve_conj()).reshape(-1)
    sha.update(flat.view(torch.uint8).numpy().tobytes())


def cut_points(kind: str, total: int, cuts: int = CUTS) -> list[int]:
    """Random steps at which `kind` is cut, the same in every session of the tests."""
    return sorted(random.Random(f"cut {kind}").sample(range(1, total - 4), cuts))


def run_pieces(kinds: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Train `kinds` whole and in pieces.

    Returns:
        By kind: `whole`, `cut` (digests), `outcomes` of the pieces, `said` (their lines), `at` (the steps of the cuts).
    """
    with _Processes(folder) as processes:
        return _run_pieces(kinds, processes)


def _run_pieces(kinds: list[str], processes: _Processes) -> dict[str, dict[str, Any]]:
    whole = processes.train({kind: {"run": f"{kind}-whole"} for kind in kinds}, piece=0)
    at = {kind: cut_points(kind, whole[kind]["steps"]) for kind in kinds}
    results = {
        kind: {"whole": whole[kind]["digest"], "at": at[kind], "outcomes": [], "said": [], "cut": None}
        for kind in kinds
    }
    for piece in range(CUTS + 1):
        orders = {}
        for number, kind in enumerate(kinds):
            orders[kind] = {"run": f"{kind}-cut", "how": HOW[(piece + number) % len(HOW)]}
            if piece < CUTS:
                orders[kind]["at"] = at[kind][piece]
        for kind, made in processes.train(orders, piece=piece).items():
            results[kind]["outcomes"].append(made["outcome"])
            results[kind]["said"] += made["said"]
            results[kind]["cut"] = made["digest"]
    return results


class _Processes:
    """A process that has imported torch and trains nothing, and forks a fresh one for every piece.

    Importing torch and what its first optimizer imports takes 4 s, as long as a piece of every kind together.
    """

    def __init__(self, folder: Path) -> None:
        self._said = folder / "stderr"
        with self._said.open("wb") as said:
            self._parent = subprocess.Popen(
                [sys.executable, "-m", "tests.backprop_torch.cutting"],
                env=environment(folder),
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(240)

    def train(self, orders: Mapping[str, Any], *, piece: int) -> dict[str, Any]:
        """One fresh process that trains a piece of each kind in `orders`."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        print(json.dumps({"piece": piece, "orders": orders}), file=self._parent.stdin, flush=True)
        lines = []
        while not lines or not lines[-1].startswith("status "):
            lines.append(self._parent.stdout.readline())
            assert lines[-1], f"the process that forks is gone: {self._said.read_text()[-4000:]}"
        assert lines[-1] == "status 0\n", f"{''.join(lines)[-2000:]}\n{self._said.read_text()[-4000:]}"
        made: dict[str, Any] = json.loads(lines[-2])
        return made


def environment(folder: Path) -> dict[str, str]:
    """The environment of a training process: a home of its own, one thread, nothing of backprop from outside."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("BACKPROP_", "SLURM_"))}
    return own | {
        "BACKPROP_HOME": str(folder / "home"),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }


def train_piece(kind: str, cut: Cut) -> dict[str, Any]:
    """Train one piece of `kind` in this process."""
    from tests.backprop_torch.kinds import KINDS

    seed(cut.piece * 1_000)
    state = KINDS[kind](cut)
    assert cut.opened is not None
    session = cut.opened._running()
    return {
        "digest": digest(state),
        "outcome": str(cut.opened.outcome),
        "steps": len(state["losses"]) if "losses" in state else session.training_state.position().step,
        "said": sorted(session.messages._said),
    }


def main() -> None:
    """Fork a child for every line of orders on standard input; its results go to standard output, as JSON."""
    import torch._dynamo  # noqa: F401

    import tests.backprop_torch.kinds  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _train(**json.loads(line))
            return
        print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _train(piece: int, orders: Mapping[str, Any]) -> None:
    made = {}
    for kind, order in orders.items():
        cut = Cut(order["run"], order.get("at"), order.get("how", "sigterm"), piece)
        try:
            made[kind] = train_piece(kind, cut)
        except backprop.BackpropError as error:
            made[kind] = {
                "digest": f"{type(error).__name__}: {error}",
                "outcome": "error",
                "steps": 0,
                "said": [],
            }
    print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
