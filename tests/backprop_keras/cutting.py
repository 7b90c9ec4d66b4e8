"""Trains kinds of `fit` whole and cut into pieces, each piece in a fresh process, and compares every bit.

A kind is a function `train(cut) -> state`. It passes `cut.callbacks(...)` to fit. The whole training has no BackpropCallback
at all. One process trains many kinds one after another, each a run of its own, because a backend takes longer to import
than any of them to train.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from backprop_core.clock import SYSTEM

ROOT = Path(__file__).parents[2]
CUTS = 2
BETWEEN_EPOCHS = ("test end", "epoch end", "epoch begin")
"""Places where a stop cuts nothing any more in the last epoch."""
HOW = ("sigterm", "deadline", "ctrl-c")
_COMPILED_ONCE = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


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


class Cut(ModuleType):
    """Where and how one piece of a training ends. It belongs to the process, as a module does: no checkpoint brings it back.

    Attributes:
        run: the run's id, or None: the training has no BackpropCallback.
        at: after this many executions (counted over the epochs) it is asked to stop, or None: it runs to its end.
        folder: for files that the pieces of one training share.
        place: what it is asked to stop at, from that execution on: `batch`, `validation` (a batch of one), or between
            two epochs, `test end`, `epoch end`, `epoch begin`.
        opened: the time box of a kind that has a loop of its own.
    """

    def __init__(self, run: str | None, at: int | None, how: str, piece: int, folder: Path) -> None:
        super().__init__("cut")
        self.run, self.at, self.how, self.piece, self.folder = run, at, how, piece, folder
        self.clock = LeapingClock()
        self.executions = 0
        self.callback: Any = None
        self.place = "batch"
        self.before_last_epoch = 0
        self.struck = False
        self.opened: Any = None
        self.epochs_ended: list[int] = []
        self.validations = 0

    def callbacks(self, *others: Any, first: bool = False, **keywords: Any) -> list[Any]:
        """Callbacks for fit: the one that strikes, `others`, and BackpropCallback before or behind them."""
        from tests.backprop_keras.striking import Striker

        striker = Striker(self)
        if self.run is None:
            return [striker, *others]
        from backprop_keras import BackpropCallback

        self.callback = BackpropCallback("10h", run=self.run, grace=0, **keywords)
        self.callback._clock = self.clock
        return [self.callback, striker, *others] if first else [striker, *others, self.callback]

    def box(self, **objects: Any) -> Any:
        """`backprop.timebox` of this run, for a loop of the kind's own; without a run, one that never stops it."""
        from backprop_core.loop.timebox import TimeBox
        from backprop_core.session.settings import make_settings

        settings = make_settings(budget="10h", run=self.run, grace=0)
        self.opened = TimeBox(settings, objects, self.clock)
        return self.opened

    def step_done(self) -> None:
        """Told by a kind with a loop of its own after each step."""
        self.executions += 1
        if self.executions == self.at:
            self.strike()

    def session(self) -> Any:
        """What ran the training, or None."""
        if self.opened is not None:
            return self.opened._session
        return None if self.callback is None else self.callback._box.session

    def strike(self) -> None:
        """Ask for the stop, the way this piece is to end."""
        self.struck = True
        if self.how == "sigterm":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.how == "ctrl-c":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            self.clock.leap(100_000)


def seed(number: int) -> None:
    """Seed every global generator."""
    import keras

    keras.utils.set_random_seed(number)


def digest(value: object) -> str:
    """SHA-256 over a state: every bit of every array and number, with keys, types and shapes."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    import numpy

    sha.update(type(value).__name__.encode() + b":")
    if isinstance(value, numpy.ndarray):
        sha.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _feed(sha, key)
            _feed(sha, item)
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(sha, item)
    elif isinstance(value, float):
        sha.update(struct.pack("<d", value))
    else:
        sha.update(repr(value).encode() + b";")


def parts_that_differ(one: Mapping[str, str], two: Mapping[str, str]) -> list[str]:
    """The names of what is not the same in both."""
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def cut_points(kind: str, total: int, cuts: int = CUTS) -> list[int]:
    """Random executions at which `kind` is cut, the same in every session of the tests."""
    return sorted(random.Random(f"cut {kind}").sample(range(1, total + 1), cuts))


def run_pieces(
    backend: str, kinds: list[str], folder: Path, *, cuts: int = CUTS, compile_once: bool = False
) -> dict[str, dict[str, Any]]:
    """Train `kinds` whole and in pieces on `backend`.

    Args:
        cuts: each is cut so often.
        compile_once: JAX keeps what it has compiled for the next process; compiling takes longer than all the rest.

    Returns:
        By kind: `whole` and `cut` (digests of the parts of the state), `outcomes`, `at`, `said`, `pieces`.
    """
    kept = compiled_once(folder) if compile_once else {}
    whole = process(backend, folder, {kind: {"run": None} for kind in kinds}, piece=0, more=kept)
    at = {kind: cut_points(kind, whole[kind]["cuttable"], cuts) for kind in kinds}
    results = {
        kind: {
            "whole": whole[kind]["parts"],
            "at": at[kind],
            "outcomes": [],
            "said": [],
            "cut": None,
            "pieces": [],
        }
        for kind in kinds
    }
    for piece in range(cuts + 1):
        orders = {}
        for number, kind in enumerate(kinds):
            orders[kind] = {"run": f"{kind}-{backend}", "how": HOW[(piece + number) % len(HOW)]}
            if piece < cuts:
                orders[kind]["at"] = at[kind][piece]
        for kind, made in process(backend, folder, orders, piece=piece, more=kept).items():
            results[kind]["outcomes"].append(made["outcome"])
            results[kind]["said"] += made["said"]
            results[kind]["cut"] = made["parts"]
            results[kind]["pieces"].append(made)
    return results


def compiled_once(folder: Path) -> dict[str, str]:
    """For the environment: what JAX has compiled is kept in `folder`, for the next model of the same shape, too."""
    return _COMPILED_ONCE | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}


def process(
    backend: str,
    folder: Path,
    orders: Mapping[str, Any],
    *,
    piece: int,
    more: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """One fresh process that trains a piece of each kind in `orders`; `more` is added to its environment."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.backprop_keras.cutting", str(piece), str(folder)],
        input=json.dumps(orders),
        env={**environment(backend, folder), **more},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, f"status {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-6000:]}"
    made: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return made


def environment(backend: str, folder: Path) -> dict[str, str]:
    """The environment of a training process: a home of its own, one thread, nothing of backprop from outside."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("BACKPROP_", "SLURM_"))}
    return own | {
        "BACKPROP_HOME": str(folder / "home"),
        "KERAS_BACKEND": backend,
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "2",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        "JAX_PLATFORMS": "cpu",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),  # compiled once, in a minute
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }


def train_piece(kind: str, cut: Cut) -> dict[str, Any]:
    """Train one piece of `kind` in this process."""
    import keras

    from tests.backprop_keras.kinds import KINDS, SEEDED

    keras.backend.clear_session()
    keras.config.set_dtype_policy("float32")
    seeded_alike = kind in SEEDED or keras.backend.backend() == "tensorflow"
    seed(7 if seeded_alike else 7 + 1_000 * cut.piece)
    state = KINDS[kind](cut)
    session = cut.session()
    return {
        "parts": {name: digest(part) for name, part in state.items()},
        "outcome": "completed" if session is None else str(session.outcome),
        "executions": cut.executions,
        "cuttable": cut.before_last_epoch if cut.place in BETWEEN_EPOCHS else cut.executions,
        "epochs_ended": cut.epochs_ended,
        "validations": cut.validations,
        "said": [] if session is None else sorted(session.messages._said),
    }


def main() -> None:
    """Child process: orders on standard input, results as JSON on standard output."""
    # A job in the background of a shell inherits SIGINT ignored: the piece that Ctrl-C is to cut would run to its end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    piece, folder = int(sys.argv[1]), Path(sys.argv[2])
    made = {}
    for kind, order in json.loads(sys.stdin.read()).items():
        place = Path(tempfile.mkdtemp(dir=folder)) if order["run"] is None else folder / order["run"]
        place.mkdir(parents=True, exist_ok=True)
        cut = Cut(order["run"], order.get("at"), order.get("how", "sigterm"), piece, place)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                made[kind] = train_piece(kind, cut)
        except Exception as error:
            traceback.print_exc()
            made[kind] = {
                "parts": {"error": f"{type(error).__name__}: {error}"},
                "outcome": "error",
                "executions": 9,
                "cuttable": 9,
                "epochs_ended": [],
                "said": [],
            }
    print(json.dumps(made))


if __name__ == "__main__":
    main()
