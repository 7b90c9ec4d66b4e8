"""Trains recipes whole and cut into pieces, each piece in a fresh process, and compares every bit and every logged value."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backprop_core.runs.control import Action, send_control
from tests.backprop_torch.cutting import LeapingClock, digest, environment
from tests.forked import Forks

CUTS = 2
_TIMES = ("runtime", "per_second")


def main() -> None:
    """Child process: orders on standard input, results as JSON on the last line of standard output."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    piece = int(sys.argv[1])
    made = {}
    for name, order in json.loads(sys.stdin.read()).items():
        try:
            made[name] = train(name, piece=piece, **order)
        except Exception as error:  # told to the test, which trains many recipes in one process
            traceback.print_exc()
            made[name] = {"outcome": f"{type(error).__name__}: {error}", "ticks": 30, "seen": []}
    print("\n" + json.dumps(made))


def train(name: str, *, run: str, piece: int, at: int | None = None, how: str = "sigterm") -> dict[str, Any]:
    """Train one piece of a recipe; `at` counts steps of this process and batches of its evaluations alike.

    `recipe@hook` is cut where `hook` is called next. Without a `run` nothing of ours is there.
    """
    import torch

    from backprop_transformers import BackpropCallback
    from tests.backprop_transformers import recipes, state_recipes, worker_recipes  # noqa: F401
    from tests.backprop_transformers.witness import Striking

    recipes.SEEN.clear()
    name, _, hook = name.partition("@")
    trainer = recipes.RECIPES[name]()
    ours = BackpropCallback("10h", run=run or None, grace=0)
    ours._clock = LeapingClock()
    striking = Striking(at, how, ours, hook)
    if run:
        trainer.add_callback(ours)
    trainer.callback_handler.callbacks.insert(0, striking)
    torch.manual_seed(100 + piece), random.random()  # pieces do not begin with the same generators
    output = trainer.train()
    state = trainer.state
    return {
        "outcome": str(ours.outcome),
        "ticks": striking.ticks,
        "hooked": striking.hooked,
        "step": state.global_step,
        "epoch": state.epoch,
        "seen": list(recipes.SEEN),
        "logged": [without_times(entry) for entry in state.log_history],
        "counted": [state.total_flos, state.num_input_tokens_seen, state.best_metric, state.best_global_step],
        "loss": output.training_loss,
        "weights": digest(dict(trainer.model.state_dict())),
        "optimizer": digest(trainer.optimizer.state_dict()),
        "scheduler": digest(trainer.lr_scheduler.state_dict()),
        "said": [text for text in ours._training.session.messages._said if "workers" in text] if run else [],
    }


def without_times(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if not key.endswith(_TIMES)}


def warm() -> None:
    """What every process needs that trains."""
    from backprop_transformers import BackpropCallback  # noqa: F401
    from tests.backprop_transformers import recipes, state_recipes, witness, worker_recipes  # noqa: F401


def run_process(forks: Forks, orders: dict[str, Any], piece: int) -> dict[str, Any]:
    """One fresh process that trains a piece of each recipe in `orders`."""
    made: dict[str, Any] = json.loads(forks([str(piece)], json.dumps(orders)).splitlines()[-1])
    return made


def run_pieces(
    names: list[str],
    folder: Path,
    cuts: int = CUTS,
    draws: str = "",
    at: Mapping[str, list[int]] | None = None,
) -> dict[str, dict[str, Any]]:
    """By recipe: what training gave `whole`, what the pieces gave together (`cut`), how they ended and where.

    Args:
        at: ticks at which recipes are cut, by name; the others anywhere.
    """
    with Forks("tests.backprop_transformers.cutting", environment(folder), folder) as forks:
        return _run_pieces(names, forks, cuts, draws, at or {})


def _run_pieces(
    names: list[str], forks: Forks, cuts: int, draws: str, given: Mapping[str, list[int]]
) -> dict[str, dict[str, Any]]:
    whole = run_process(forks, {name: {"run": f"{name}-whole".replace("@", "-")} for name in names}, 0)
    draw = random.Random(f"trainer cuts of {len(names)}{draws}")
    at = {}
    for name in names:
        places = _places(whole[name])
        at[name] = sorted(
            draw.sample(places, min(cuts, len(places)))
        )  # of two epochs only the first end can be cut
    at.update(given)
    pieces: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for piece in range(cuts + 1):
        orders: dict[str, Any] = {}
        for number, name in enumerate(names):
            done = sum(made["ticks"] for made in pieces[name])
            orders[name] = {
                "run": f"{name}-cut".replace("@", "-"),
                "how": ("sigterm", "control")[(piece + number) % 2],
            }
            if piece > len(at[name]):
                del orders[name]
            elif piece < len(at[name]):
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
    return result


def strike(how: str, callback: Any) -> None:
    """Ask the box to stop."""
    if how == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
    elif how == "control":
        send_control(callback._training.session.enrolment.attempt.directory, Action.STOP)
        callback._clock.leap(1)  # the file is read four times a second at most
    else:
        callback._clock.leap(100_000)


if __name__ == "__main__":
    main()
