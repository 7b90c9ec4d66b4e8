"""What a Trainer does around a stop, trained in one fresh process and told as JSON: `python -m ... FOLDER`."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from backprop_transformers import BackpropCallback
from tests.backprop_torch.cutting import LeapingClock, digest
from tests.backprop_transformers import recipes
from tests.backprop_transformers.recipes import LOADED, Text, model, trainer
from tests.backprop_transformers.witness import Striking

Case = Callable[[Path], Any]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


class Diary(TrainerCallback):
    """Which events there were."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            object.__getattribute__(self, "events").append(name)
        return object.__getattribute__(self, name)


def boxed(run: str, **keywords: Any) -> BackpropCallback:
    made = BackpropCallback("10h", run=run, grace=0, **keywords)
    made._clock = LeapingClock()
    return made


def struck(run: str, at: int, how: str = "control", **keywords: Any) -> tuple[Any, BackpropCallback, Any]:
    """A training that was asked to stop in its `at`-th step or batch of an evaluation."""
    ours = boxed(run)
    made = trainer(**keywords)
    made.add_callback(ours)
    made.callback_handler.callbacks.insert(0, Striking(at, how, ours))
    return made, ours, made.train()


def said_in(ours: BackpropCallback) -> str:
    assert ours._training is not None
    path = ours._training.session.enrolment.attempt.directory / "events.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return " ".join(event["text"] for event in events if "level" in event)


@case
def stop(folder: Path) -> Any:
    diary = Diary()
    made, ours, output = struck(
        "stop", 7, eval_strategy="steps", save_strategy="steps", eval_steps=8, save_steps=8, load_best_model_at_end=True,
        num_train_epochs=2, metric_for_best_model="loss", output_dir=str(folder / "stop"),
        callbacks=[diary, EarlyStoppingCallback(2)],
    )  # fmt: skip
    last = max(number for number, name in enumerate(diary.events) if name == "on_step_end")
    replaced = [
        name
        for owner in (made, made.callback_handler)
        for name in vars(owner)
        if callable(vars(type(owner)).get(name))
    ]
    return {
        "outcome": ours.outcome,
        "step": output.global_step,
        "after": diary.events[last + 1 :],
        "folders": sorted(path.name for path in (folder / "stop").iterdir()),
        "instance": replaced,
        "in_train": made.is_in_train,
        "loss": output.training_loss > 0,
        "checkpoint": ours.checkpoint is not None and ours.checkpoint.name,
    }


@case
def deadline(folder: Path) -> Any:
    """Not governed: the code behind `train` goes on, and a second training of the same process is a box of its own."""
    made, ours, output = struck("deadline", 5, "leap")
    weights = load_file(ours.checkpoint / "model.safetensors") if ours.checkpoint else {}
    fits = {
        name: bool(torch.equal(tensor, made.model.state_dict()[name])) for name, tensor in weights.items()
    }
    first = (ours.outcome, output.global_step, bool(fits) and all(fits.values()))
    _, ours, output = struck("second", 1000, num_train_epochs=1)
    return {"first": first, "second": (ours.outcome, output.global_step), "remaining": ours.remaining}


@case
def unrecorded(folder: Path) -> Any:
    """The run's folder is removed while it trains: `train` returns all the same."""

    class Removes(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                shutil.rmtree(Path(os.environ["BACKPROP_HOME"]) / "runs/unrecorded")

    _, ours, output = struck("unrecorded", 1000, num_train_epochs=1, callbacks=[Removes()])
    return {"outcome": str(ours.outcome), "step": output.global_step}


@case
def pending(folder: Path) -> Any:
    """An evaluation that was left: the next attempt begins with it."""
    keywords: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4, "num_train_epochs": 1}
    made, ours, output = struck("pending", 6, **keywords)  # the second batch of the evaluation behind step 4
    left = (
        ours.outcome,
        output.global_step,
        [entry for entry in made.state.log_history if "eval_loss" in entry],
    )
    diary = Diary()
    made, ours, output = struck("pending", 1000, callbacks=[diary], **keywords)
    begun = [name for name in diary.events if name in ("on_evaluate", "on_step_begin", "on_train_begin")]
    return {
        "left": left,
        "begun": begun[:3],
        "outcome": ours.outcome,
        "resumed": ours.resumed_from is not None,
    }


@case
def skipped(folder: Path) -> Any:
    """Batches that were trained are not loaded again."""
    struck("skipped", 12, num_train_epochs=2)
    LOADED.clear()
    _, ours, _ = struck("skipped", 1000, num_train_epochs=2)
    return {"loaded": len(LOADED), "samples": 38, "outcome": ours.outcome}


@case
def users_checkpoint(folder: Path) -> Any:
    """The script names its own checkpoint at each start: once ours is the newer one, once its own."""
    keywords: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": 4,
        "num_train_epochs": 1,
        "output_dir": str(folder / "own"),
    }
    struck("users", 7, **keywords)

    def resumed(named: Any, at: int | None) -> Any:
        made, ours = trainer(**keywords), boxed("users")
        diary = Striking(at, "control", ours)
        made.add_callback(ours)
        made.callback_handler.callbacks.insert(0, diary)
        made.train(resume_from_checkpoint=named)
        return {
            "said": said_in(ours),
            "steps": diary.ticks,
            "outcome": ours.outcome,
            "from": ours.resumed_from,
        }

    older = resumed(str(folder / "own" / "checkpoint-4"), 1)
    state = folder / "own" / "checkpoint-4" / "trainer_state.json"
    told = json.loads(state.read_text())
    state.write_text(json.dumps(told | {"global_step": 9}))  # as if its attempt had come further than ours
    return {"older": older, "newer": resumed(True, None)}


@case
def mismatch(folder: Path) -> Any:
    struck("mismatch", 3)
    ours = boxed("mismatch")
    made = trainer(model=model(24), callbacks=[ours])
    before = digest(dict(made.model.state_dict()))
    try:
        made.train()
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    return {
        "error": text,
        "same": digest(dict(made.model.state_dict())) == before,
        "optimizer": len(made.optimizer.state_dict()["state"]),
        "outcome": ours.outcome,
        "replaced": "_maybe_log_save_evaluate" in vars(made),
    }


class Failing(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise KeyError("the user's own")


@case
def users_error(folder: Path) -> Any:
    ours = boxed("error")
    made = trainer(callbacks=[ours, Failing()])
    try:
        made.train()
    except KeyError as error:
        return {"error": str(error), "outcome": ours.outcome, "replaced": "get_batch_samples" in vars(made)}


@case
def completed(folder: Path) -> Any:
    """A completed run is loaded and not trained again."""
    whole, _, _ = struck("done", 1000, num_train_epochs=1)
    ours = boxed("done", resume=True)
    made = trainer(num_train_epochs=1, callbacks=[ours])
    LOADED.clear()
    output = made.train()
    return {
        "step": output.global_step,
        "loaded": len(LOADED),
        "same": digest(dict(made.model.state_dict())) == digest(dict(whole.model.state_dict())),
        "entries": len(made.state.log_history) == len(whole.state.log_history),
        "loss": output.training_loss == whole.state.log_history[-1]["train_loss"],
    }


@case
def without_ours(folder: Path) -> Any:
    """A Trainer without the callback trains as ever, although others have one."""
    made = trainer(num_train_epochs=1, data=Text(8))
    return {
        "step": made.train().global_step,
        "callbacks": [type(c).__name__ for c in made.callback_handler.callbacks],
    }


@case
def attached(folder: Path) -> Any:
    """`attach` adds one callback to a Trainer that has none, once, and none to another."""
    from backprop_transformers import callback, train_entry
    from backprop_transformers.attach import attach

    attach()
    original = Trainer.train
    attach()
    try:
        bare, own = (
            trainer(data=Text(8), num_train_epochs=1),
            trainer(callbacks=[boxed("own")], num_train_epochs=1),
        )
        bare.train()
        bare.train()
        own.train()
    finally:
        train_entry.find_with(callback.users_callback)
    count = [
        sum(isinstance(c, BackpropCallback) for c in made.callback_handler.callbacks) for made in (bare, own)
    ]
    return {"count": count, "same_train": Trainer.train is original, "step": bare.state.global_step}


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    made = {}
    for name, function in CASES.items():
        recipes.SEEN.clear()
        try:
            made[name] = function(Path(sys.argv[1]))
        except BaseException:
            made[name] = {"failed": traceback.format_exc()}
    print("\n" + json.dumps(made, default=str))


if __name__ == "__main__":
    main()
