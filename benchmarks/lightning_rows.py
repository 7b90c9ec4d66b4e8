"""Lightning with our callback beside its own Timer and ModelCheckpoint: is a box late, what is lost, what does a batch cost?

    python benchmarks/lightning_rows.py                 # 30 boxes, the peers, and the cost of a batch
    python benchmarks/lightning_rows.py --boxes 5

A box is one `Trainer.fit` in this process, its budget counted from the callback's setup; late is a fit that returns after
its deadline. Lost are optimizer steps that the last checkpoint does not hold. `deadline_rows` and `boundary_rows` are also
called by benchmarks/deadline.py and benchmarks/boundary.py.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import tempfile
import time
import warnings
from contextlib import redirect_stderr
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from side_by_side import quantile, show, write

ROUNDS = 25
SIZE = 20_000


def _module(state_mb: float, step_ms: float, val_s: float, seed: int) -> Any:
    """A module of `state_mb` megabytes whose steps and validations take a given time, with jitter."""
    import pytorch_lightning as pl
    import torch

    rng = random.Random(seed)

    class Padded(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 2)
            self.register_buffer("padding", torch.zeros(int(state_mb * 250_000)))
            self.trained = 0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            time.sleep(step_ms / 1000 * rng.uniform(0.8, 1.3))
            self.trained += 1
            return self.layer(batch).square().mean()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            time.sleep(val_s / 10 * rng.uniform(0.8, 1.3))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Padded()


def _fit(module: Any, callbacks: list[Any], folder: Path, batches: int) -> None:
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader

    train = DataLoader(torch.randn(batches * 4, 8), batch_size=4, shuffle=True)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=-1, callbacks=callbacks, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
        enable_checkpointing=any(type(c).__name__ == "ModelCheckpoint" for c in callbacks),
    )  # fmt: skip
    trainer.fit(module, train, DataLoader(torch.randn(10, 8), batch_size=1))


def box(number: int, home: Path) -> dict[str, Any]:
    """One boxed fit, and what became of it."""
    from backprop_lightning import BackpropCallback

    rng = random.Random(number)
    budget_s, val_s = rng.uniform(5.0, 20.0), 10 ** rng.uniform(-1.0, 0.7)
    state_mb, step_ms = 10 ** rng.uniform(0.0, 2.7), 10 ** rng.uniform(0.7, 2.3)
    module = _module(state_mb, step_ms, val_s, number)
    ours = BackpropCallback(budget_s, name=f"box {number}")
    began = time.monotonic()
    with redirect_stderr(StringIO()):
        _fit(module, [ours], home, batches=max(5, int(rng.uniform(1.0, 4.0) * 1000 / step_ms)))
    slack_s = budget_s - (time.monotonic() - began)
    info = ours._fit.session.checkpoint  # type: ignore[union-attr]
    row = {
        "box": number, "budget_s": budget_s, "state_mb": state_mb, "step_ms": step_ms, "val_s": val_s,
        "outcome": str(ours.outcome), "trained": module.trained, "lost": module.trained - info.step, "slack_s": slack_s,
        "reason": ours._fit.session.reason,  # type: ignore[union-attr]
    }  # fmt: skip
    shutil.rmtree(info.path.parent, ignore_errors=True)
    return row


def peer(state_mb: float, val_s: float, budget_s: float, home: Path) -> dict[str, Any]:
    """The same work under Lightning's Timer, with a ModelCheckpoint that saves the last."""
    from pytorch_lightning.callbacks import ModelCheckpoint, Timer

    module = _module(state_mb, 50.0, val_s, 0)
    folder = home / "peer"
    loop_state = ModelCheckpoint(folder, save_last=True, save_on_train_epoch_end=False)
    began = time.monotonic()
    with redirect_stderr(StringIO()):
        _fit(module, [Timer(timedelta(seconds=budget_s)), loop_state], folder, batches=60)
    slack_s = budget_s - (time.monotonic() - began)
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "peer": "Timer + ModelCheckpoint", "state MB": state_mb, "validation s": val_s, "budget s": budget_s,
        "slack s": slack_s, "last checkpoint": "of the end",
    }  # fmt: skip


def deadline_rows() -> list[dict[str, Any]]:
    """Lightning's own pair at a deadline."""
    _quiet()
    with tempfile.TemporaryDirectory(prefix="backprop-bench-") as home:
        os.environ["BACKPROP_HOME"] = home
        return [peer(30, 1.0, 8.0, Path(home)), peer(300, 3.0, 12.0, Path(home))]


def boundary_rows(rounds: int = ROUNDS, size: int = SIZE) -> list[dict[str, Any]]:
    """Nanoseconds for each batch: our part in Lightning's loop, hook included, beside Timer's hook."""
    from pytorch_lightning.callbacks import Timer

    from backprop_lightning import BackpropCallback
    from backprop_lightning.boundaries import TrainingLoop

    class Holder:
        """Anything with attributes."""

        should_stop = False
        global_step = 0

    trainer, progress = Holder(), Holder()
    progress.ready = 1  # type: ignore[attr-defined]
    trainer.fit_loop = Holder()  # type: ignore[attr-defined]
    trainer.fit_loop.epoch_loop = Holder()  # type: ignore[attr-defined]
    trainer.fit_loop.epoch_loop.batch_progress = Holder()  # type: ignore[attr-defined]
    trainer.fit_loop.epoch_loop.batch_progress.current = progress  # type: ignore[attr-defined]
    trainer.strategy = Holder()  # type: ignore[attr-defined]
    trainer.strategy.broadcast = lambda value: value  # type: ignore[attr-defined]
    ours = BackpropCallback("1h")
    loop = _idle_loop(TrainingLoop, trainer)
    timer = Timer(timedelta(hours=1))
    timer.on_train_start(trainer, None)  # type: ignore[arg-type]

    def original() -> None:
        for _ in range(size):
            _nothing(None)

    def with_ours() -> None:
        advance, hook = loop._advance, ours.on_train_batch_end
        for index in range(size):
            advance(None)
            hook(trainer, None, None, None, index)

    def with_timer() -> None:
        hook = timer.on_train_batch_end
        for index in range(size):
            _nothing(None)
            hook(trainer, None, None, None, index)  # type: ignore[arg-type]

    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for form in (original, with_ours, with_timer):
            began = time.perf_counter()
            form()
            times.setdefault(form.__name__, []).append((time.perf_counter() - began) / size * 1e9)
    base = quantile(times.pop("original"), 0.5)
    return [{"form": name, "ns a batch": quantile(values, 0.5) - base} for name, values in times.items()]


def _nothing(fetcher: Any) -> None: ...


def _idle_loop(kind: Any, trainer: Any) -> Any:
    """Our loop in the middle of an epoch, between two boundaries that are due."""
    loop = kind.__new__(kind)

    class Session:
        wake = float("inf")

    from backprop_lightning.training import BoxedFit

    fit = BoxedFit.__new__(BoxedFit)
    fit._together = None
    fit.clock = __import__("backprop_core.clock", fromlist=["SYSTEM"]).SYSTEM
    fit.session = Session()  # type: ignore[assignment]
    loop._special, loop._boundaries, loop._advance_original = False, fit, _nothing
    loop._trainer, loop._quiet_until = trainer, float("inf")
    loop._progress = trainer.fit_loop.epoch_loop.batch_progress.current
    return loop


def _quiet() -> None:
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", type=int, default=30)
    options = parser.parse_args()
    _quiet()
    results: dict[str, Any] = {"boundary": boundary_rows()}
    show("Cost of a batch", results["boundary"])
    with tempfile.TemporaryDirectory(prefix="backprop-bench-") as home:
        os.environ["BACKPROP_HOME"] = home
        rows = [box(number, Path(home)) for number in range(options.boxes)]
    results["boxes"] = rows
    show("Boxes", rows)
    summary = {
        "boxes": len(rows),
        "late": sum(row["slack_s"] < 0 for row in rows),
        "lost more than one step": sum(row["lost"] > 1 for row in rows),
        "slack median s": quantile([row["slack_s"] for row in rows], 0.5),
        "slack p95 s": quantile([row["slack_s"] for row in rows], 0.95),
    }
    results["summary"] = summary
    show("Summary", [summary])
    results["peers"] = deadline_rows()
    show("Lightning's own pair", results["peers"])
    write("lightning", results)


if __name__ == "__main__":
    main()
