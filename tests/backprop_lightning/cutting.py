"""Trains recipes whole and cut into pieces, each piece in a fresh process, and compares every bit and every logged value."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from backprop_core.runs.control import Action, send_control
from tests.backprop_torch.cutting import LeapingClock, digest, environment, seed
from tests.forked import Forks

CUTS = 2


def main() -> None:
    """Child process: orders on standard input, results as JSON on the last line of standard output."""
    warnings.simplefilter("ignore")
    import logging

    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.ERROR)
    piece = int(sys.argv[1])
    made = {}
    for name, order in json.loads(sys.stdin.read()).items():
        try:
            made[name] = train(name, piece=piece, **order)
        except Exception as error:  # told to the test, which trains many recipes in one process
            traceback.print_exc()
            made[name] = {
                "outcome": f"{type(error).__name__}: {error}",
                "ticks": 30,
                "seen": [],
                "logged": [],
            }
    print(json.dumps(made))


def train(name: str, *, run: str, piece: int, at: int | None = None, how: str = "sigterm") -> dict[str, Any]:
    """Train one piece of a recipe; `at` counts batches of this process and validation batches alike.

    `recipe@hook` is cut where `hook` is called next. Without a `run` nothing of ours is there.
    """
    from backprop_lightning import BackpropCallback
    from tests.backprop_lightning import recipes, state_recipes, worker_recipes  # noqa: F401
    from tests.backprop_lightning.witness import Striking, WitnessLogger

    seed(piece * 1000)
    recipes.SEEN.clear()
    name, _, hook = name.partition("@")
    module, trainer_keywords, fit_keywords = recipes.RECIPES[name]()
    logger = WitnessLogger()
    ours = BackpropCallback("10h", run=run or None, grace=0)
    ours._clock = LeapingClock()
    striking = Striking(at, how, ours, hook)
    bare = bool(trainer_keywords.get("barebones"))
    quiet: dict[str, Any] = (
        {}
        if bare
        else {
            "logger": logger,
            "log_every_n_steps": 2,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
        }
    )
    added = trainer_keywords.pop("callbacks", [])
    kept = Path(os.environ["BACKPROP_HOME"]) / "kept" / run
    for callback in added:
        if isinstance(callback, recipes.callbacks.ModelCheckpoint):
            callback.dirpath = str(kept)
    trainer = recipes.pl.Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=[striking, *added, *[ours][: len(run)]],
        **(quiet | trainer_keywords),
    )
    trainer.fit(module, **fit_keywords)
    optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
    return {
        "outcome": str(ours.outcome),
        "ticks": striking.ticks,
        "hooked": striking.hooked,
        "step": trainer.global_step,
        "epoch": trainer.current_epoch,
        "seen": list(recipes.SEEN),
        "logged": logger.seen,
        "weights": digest(dict(module.state_dict())),
        "optimizers": digest(optimizers),
        "kept": {path.name: _kept(path) for path in sorted(kept.glob("*.ckpt"))},
        "metrics": {k: float(v) for k, v in trainer.callback_metrics.items()},
        "said": [text for text in ours._fit.session.messages._said if "workers" in text] if run else [],
    }


def _kept(path: Path) -> str:
    """What counts of a checkpoint of the user's own."""
    loaded = torch.load(path, weights_only=True)
    return digest([loaded[part] for part in ("state_dict", "optimizer_states", "global_step", "epoch")])


def warm() -> None:
    """What every process needs that trains."""
    from backprop_lightning import BackpropCallback  # noqa: F401
    from tests.backprop_lightning import recipes, state_recipes, witness, worker_recipes  # noqa: F401


def run_process(forks: Forks, orders: dict[str, Any], piece: int) -> dict[str, Any]:
    """One fresh process that trains a piece of each recipe in `orders`."""
    made: dict[str, Any] = json.loads(forks([str(piece)], json.dumps(orders)).splitlines()[-1])
    return made


def run_pieces(
    names: list[str],
    folder: Path,
    package: str,
    cuts: int = CUTS,
    at: Mapping[str, list[int]] | None = None,
) -> dict[str, dict[str, Any]]:
    """By recipe: what training gave `whole`, what the pieces gave together (`cut`), how they ended and where.

    Args:
        at: ticks at which recipes are cut, by name; the others anywhere.
    """
    own = environment(folder) | {"LIGHTNING_PACKAGE": package}
    with Forks("tests.backprop_lightning.cutting", own, folder) as forks:
        return _run_pieces(names, forks, cuts, at or {})


def _run_pieces(
    names: list[str], forks: Forks, cuts: int, given: Mapping[str, list[int]]
) -> dict[str, dict[str, Any]]:
    whole = run_process(forks, {name: {"run": f"{name}-whole".replace("@", "-")} for name in names}, 0)
    draw = random.Random(f"lightning cuts of {len(names)}")
    at = {name: sorted(draw.sample(_places(whole[name]), cuts)) for name in names} | dict(given)
    pieces: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for piece in range(cuts + 1):
        orders: dict[str, Any] = {}
        for number, name in enumerate(names):
            done = sum(made["ticks"] for made in pieces[name])
            orders[name] = {
                "run": f"{name}-cut".replace("@", "-"),
                "how": ("sigterm", "control")[(piece + number) % 2],
            }
            if piece < cuts:
                orders[name]["at"] = max(1, at[name][piece] - done)
        for name, made in run_process(forks, orders, piece).items():
            pieces[name].append(made)
    bare = run_process(forks, {name: {"run": ""} for name in names if name.startswith("drawing")}, 0)
    return {
        name: {"whole": whole[name], "cut": _together(pieces[name]), "at": at[name], "bare": bare.get(name)}
        for name in names
    }


def _places(whole: dict[str, Any]) -> Sequence[int]:
    """Where it can be cut; behind the last batch a hook is called that nothing follows."""
    ticks = whole["ticks"]
    return [at for at in whole["hooked"] if 0 < at < ticks] if whole.get("hooked") else range(1, ticks)


def _together(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    result = dict(pieces[-1])
    result["outcomes"] = [made["outcome"] for made in pieces]
    result["said"] = [made.get("said") for made in pieces]
    result["seen"] = [batch for made in pieces for batch in made["seen"]]
    result["logged"] = [entry for made in pieces for entry in made["logged"]]
    return result


def strike(how: str, callback: Any) -> None:
    """Ask the box to stop."""
    if how == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
    elif how == "control":
        send_control(callback._fit.session.enrolment.attempt.directory, Action.STOP)
        callback._clock.leap(1)  # the file is read four times a second at most
    else:
        callback._clock.leap(100_000)


if __name__ == "__main__":
    main()
