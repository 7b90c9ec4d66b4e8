"""Nanoseconds a boundary costs: our loops beside a bare loop, tqdm and Lightning's Timer hook, in turns in one run.

    python benchmarks/boundary.py

Each form is timed over blocks of iterations, the forms taking turns; the figure is the least of all blocks, as timeit's
documentation advises: what is above it is the machine's, whose clock may change by half within a second. Goal (DESIGN
section 13): at most 200 ns over the bare loop, 400 ns for a loop that `backprop run` has counted.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from io import StringIO
from types import SimpleNamespace
from typing import Any

from side_by_side import quantile, show, write

GOAL_NS = 200.0
COUNTED_GOAL_NS = 400.0


def bare(items: range) -> None:
    for _ in items:
        pass


def with_tqdm(items: range) -> None:
    from tqdm import tqdm

    for _ in tqdm(items, file=StringIO()):
        pass


class Forms:
    """Every form of our loop, inside one open box."""

    def __init__(self, box: Any) -> None:
        self.box = box

    def batches(self, items: range) -> None:
        for _ in self.box.batches(items):
            pass

    def steps(self, items: range) -> None:
        for _ in self.box.steps(len(items)):
            pass

    def by_hand(self, items: range) -> None:
        step = self.box.step
        for _ in items:
            step()


class _Quiet:
    """A training that is never asked for a boundary, so what is left is the counting."""

    alarm = SimpleNamespace(wake=float("inf"))

    def begun(self, loop: Any, source: Any) -> Any:
        return source

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


def counted_form() -> Callable[[range], None]:
    """The bare loop of an unmodified script as `backprop run` compiles it."""
    from backprop_core.loop import counted_loops, rewritten_names
    from backprop_core.script_state.program import Program
    from backprop_core.script_state.rewrite import rewrite

    class EveryLoop(Program):
        def can_step(self, body: Any) -> bool:
            return True

    made = rewrite("def loop(items):\n    for _ in items:\n        pass\n", "bench.py", "bench", EveryLoop())
    rewritten_names.install(made.sites)
    counted_loops.loops().dormant = False
    counted_loops.loops().training = _Quiet()
    names: dict[str, Any] = {}
    exec(made.code, names)
    form: Callable[[range], None] = names["loop"]
    return form


def raw_loader_cost_ns(rounds: int, size: int) -> dict[str, float]:
    """The zero-argument form: an optimizer step and a DataLoader fetch, with and without the watch around them."""
    import torch
    from torch.utils.data import DataLoader

    import backprop

    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    loader: DataLoader[Any] = DataLoader(range(size), batch_size=None)

    def loop() -> float:
        began = time.perf_counter()
        for _ in loader:
            optimizer.step()
        return (time.perf_counter() - began) / size * 1e9

    without, within = [], []
    loop()
    for _ in range(rounds):
        without.append(loop())
        with backprop.timebox("1h", optimizer=optimizer, checkpoint_every="1h"):
            loop()
            within.append(loop())
    return {"bare": min(without), "watched": min(within)}


def timed(form: Callable[[range], None], size: int) -> float:
    items = range(size)
    began = time.perf_counter()
    form(items)
    return (time.perf_counter() - began) / size * 1e9


def lightning_forms() -> Iterator[tuple[str, Callable[[range], None]]]:
    """Lightning's Timer hook, and ours where the adapter provides it."""
    if importlib.util.find_spec("pytorch_lightning") is None:
        return
    from pytorch_lightning.callbacks import Timer

    class Trainer:
        should_stop = False
        global_step = 0

        class strategy:  # noqa: N801 - the attribute that Timer reads
            @staticmethod
            def broadcast(value: object) -> object:
                return value

    timer = Timer(duration="00:01:00:00")
    timer.on_train_start(Trainer(), None)  # type: ignore[arg-type]
    hook = timer.on_train_batch_end

    def with_timer(items: range) -> None:
        for index in items:
            hook(Trainer, None, None, None, index)  # type: ignore[arg-type]

    yield "Lightning's Timer hook", with_timer


def lightning_rows() -> list[dict[str, Any]]:
    """Our whole part in Lightning's loop beside Timer's hook, both over a batch that does nothing."""
    if importlib.util.find_spec("pytorch_lightning") is None:
        return []
    import lightning_rows as lightning

    measured = {row["form"]: row["ns a batch"] for row in lightning.boundary_rows()}
    goal = f"<= {measured['with_timer'] / 2:.0f}"
    return [
        {"loop": "Lightning with our callback", "over the bare loop": measured["with_ours"], "goal": goal},
        {"loop": "Lightning with Timer", "over the bare loop": measured["with_timer"], "goal": ""},
    ]


def keras_loop_rows() -> list[dict[str, Any]]:
    """A small Keras model with our callback beside a stock batch callback; one process for each backend."""
    if importlib.util.find_spec("keras") is None:
        return []
    import keras_rows

    rows = []
    for measured in keras_rows.boundary_rows():
        bare_ns, stock_ns, ours_ns = (
            1e3 * measured[f"{form} us"] for form in ("bare", "stock callback", "BackpropCallback")
        )
        for form, ns in (("a stock batch callback", stock_ns), ("our callback", ours_ns)):
            rows.append(
                {
                    "loop": f"Keras on {measured['backend']} with {form}",
                    "ns an iteration": ns,
                    "over the bare loop": ns - bare_ns,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--size", type=int, default=100_000, help="iterations in a block")
    options = parser.parse_args()
    os.environ["BACKPROP_HOME"] = tempfile.mkdtemp(prefix="backprop-bench-")
    import backprop

    silent = StringIO()
    results: dict[str, list[float]] = {}
    with redirect_stderr(silent), backprop.timebox("1h", checkpoint_every="1h") as box:
        ours = Forms(box)
        forms: list[tuple[str, Callable[[range], None]]] = [
            ("bare loop", bare),
            ("box.batches", ours.batches),
            ("box.steps", ours.steps),
            ("box.step()", ours.by_hand),
            ("a counted loop", counted_form()),
            ("tqdm", with_tqdm),
            *lightning_forms(),
        ]
        for _ in range(options.rounds):
            for name, form in forms:
                results.setdefault(name, []).append(timed(form, options.size))
    with redirect_stderr(silent):
        raw = raw_loader_cost_ns(max(5, options.rounds // 3), 5_000)
    base_ns = min(results["bare loop"])
    rows = [
        {
            "loop": n,
            "ns an iteration": min(v),
            "median": quantile(v, 0.5),
            "over the bare loop": min(v) - base_ns,
        }
        for n, v in results.items()
    ]
    rows.append(
        {
            "loop": "timebox() around an unchanged loop",
            "ns an iteration": raw["watched"],
            "over the bare loop": raw["watched"] - raw["bare"],
        }
    )
    for row in rows:
        ours_goal = f"<= {GOAL_NS:.0f}" if str(row["loop"]).startswith("box.") else ""
        row["goal"] = f"<= {COUNTED_GOAL_NS:.0f}" if row["loop"] == "a counted loop" else ours_goal
    rows += lightning_rows()
    rows += keras_loop_rows()
    show("A boundary, in nanoseconds", rows)
    print(f"\nWritten to {write('boundary', {'rows': rows, 'goal_ns': GOAL_NS})}")


if __name__ == "__main__":
    main()
