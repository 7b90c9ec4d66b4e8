"""What a Trainer does around a stop, trained in one fresh process and told as JSON: `python -m ... FOLDER`."""

from __future__ import annotations

import argparse
import enum
import importlib
import importlib.util
import inspect
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backprop_lightning import BackpropCallback
from tests.backprop_lightning import recipes, state_recipes  # noqa: F401 - registers its recipes
from tests.backprop_lightning.cutting import strike
from tests.backprop_lightning.recipes import Net, callbacks, loader, pl, validation
from tests.backprop_lightning.witness import Striking, WitnessLogger
from tests.backprop_torch.cutting import LeapingClock, digest, seed
from tests.noted import Noted

Case = Callable[[Path], Any]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


class Diary(pl.Callback):  # type: ignore[misc,name-defined]
    """Which hooks are called."""

    def __init__(self) -> None:
        super().__init__()
        self.hooks: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_") or name in ("setup", "teardown"):
            object.__getattribute__(self, "hooks").append(name)
        return object.__getattribute__(self, name)


_BEGINS = Noted()
"""At which steps fits of this process began: what a hook holds itself would come back from the checkpoint."""


def boxed(run: str, **keywords: Any) -> BackpropCallback:
    made = BackpropCallback("10h", run=run, **({"grace": 0} | keywords))
    made._clock = LeapingClock()
    return made


def trainer(*added: Any, **keywords: Any) -> Any:
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    return pl.Trainer(
        accelerator="cpu", devices=1, callbacks=list(added), **(quiet | {"max_epochs": 3} | keywords)
    )


def events_of(ours: BackpropCallback) -> list[dict[str, Any]]:
    path = ours._fit.session.enrolment.attempt.directory / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def said_in(ours: BackpropCallback) -> str:
    return " ".join(event["text"] for event in events_of(ours) if "level" in event)


def fit(made: Any, module: Any = None, **keywords: Any) -> Any:
    module = Net() if module is None else module
    made.fit(module, loader(), validation(), **keywords)
    return module


@case
def stop(folder: Path) -> Any:
    """A stop in the middle of an epoch, with everything around that usually acts at the end of one."""
    ours, diary, logger = boxed("stop"), Diary(), WitnessLogger()
    kept = callbacks.ModelCheckpoint(folder / "kept", monitor="val_loss", save_top_k=2, save_last=True)
    on_error = callbacks.OnExceptionCheckpoint(folder / "error")
    stopping = callbacks.EarlyStopping("val_loss", patience=3)
    made = trainer(
        Striking(15, "sigterm", ours), diary, stopping, kept, on_error, callbacks.TQDMProgressBar(), ours,
        enable_progress_bar=True, min_epochs=3, min_steps=25, enable_checkpointing=True, logger=logger, profiler="simple",
    )  # fmt: skip
    fit(made)
    hooks = diary.hooks
    return {
        "outcome": str(ours.outcome),
        "step": made.global_step,
        "epoch": made.current_epoch,
        "after": hooks[len(hooks) - hooks[::-1].index("on_train_batch_end") :],
        "kept": sorted(path.name for path in (folder / "kept").iterdir()),
        "error": (folder / "error").exists(),
        "waited": stopping.wait_count,
        "loggers": logger.ended,
        "bar_closed": made.progress_bar_callback.train_progress_bar.disable,  # tqdm's mark of a closed bar
        "status": str(made.state.status),
        "stop_handler": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "int_handler": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "instance": [name for name in ("_run_stage",) if name in vars(made)]
        + [name for name in ("advance",) if name in vars(made.fit_loop.epoch_loop)],
    }


@case
def lightning_opens_it(folder: Path) -> Any:
    """lightning.ckpt is an ordinary checkpoint of Lightning's."""
    ours = boxed("opens")
    module = fit(trainer(Striking(15, "control", ours), ours))
    path = ours.checkpoint / "lightning.ckpt"
    loaded = Net.load_from_checkpoint(path)
    torch.load(path, weights_only=True)
    other = trainer(max_epochs=3)
    rules = {"weights_only": True} if "weights_only" in inspect.signature(other.fit).parameters else {}
    fit(other, ckpt_path=path, **rules)  # before 2.6 there is no such argument
    return {
        "same": digest(dict(loaded.state_dict())) == digest(dict(module.state_dict())),
        "went_on_to": other.global_step,
        "files": sorted(p.name for p in ours.checkpoint.iterdir()),
    }


class Size(enum.Enum):
    SMALL = 1


class Odd(Net):
    """Hyper-parameters of every kind that torch's rules refuse."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.save_hyperparameters(given)


@case
def odd_hyper_parameters(folder: Path) -> Any:
    """They play no part in a resume; whoever opens the file finds them, but for those that cannot be read at all."""
    odd = {
        "place": folder, "size": Size.SMALL, "kind": torch.optim.Adam, "layer": torch.nn.ReLU(),
        "make": partial(torch.optim.Adam, lr=0.1), "options": argparse.Namespace(lr=0.1), "rate": np.float64(0.1),
    }  # fmt: skip
    seed(1)
    module = fit(trainer(), Odd(**odd))
    seed(1)
    first = boxed("odd")
    hard = {"queue": deque([1])}
    fit(trainer(Striking(15, "control", first), first), Odd(**odd, **hard))
    seed(7)
    second = boxed("odd")
    last = fit(trainer(second), Odd(**odd, **hard))
    opened = torch.load(first.checkpoint / "lightning.ckpt", weights_only=False)["hyper_parameters"]
    return {
        "said": said_in(first),
        "kept": {name: type(value).__name__ for name, value in opened.items() if name in odd | hard},
        "resumed": second.resumed_from is not None,
        "same": digest(dict(last.state_dict())) == digest(dict(module.state_dict())),
    }


@case
def odd_entries(folder: Path) -> Any:
    """What `on_save_checkpoint` puts in: data comes back, an object that is not read is left out."""

    class Adds(Net):
        def on_save_checkpoint(self, checkpoint: Any) -> None:
            checkpoint["best"], checkpoint["size"] = np.float64(0.5), Size.SMALL

    class Reads(Adds):
        def on_load_checkpoint(self, checkpoint: Any) -> None:
            self.best = checkpoint["best"]

    def trained(run: str, kind: type[Net], at: int | None) -> BackpropCallback:
        ours = boxed(run)
        striking = [] if at is None else [Striking(at, "control", ours)]
        fit(trainer(*striking, ours), kind())
        return ours

    trained("adds", Adds, 15)
    unread = trained("adds", Adds, None)
    warned, error = trained("reads", Reads, 15), ""
    try:
        trained("reads", Reads, None)
    except Exception as refused:
        error = f"{type(refused).__name__}: {refused}"
    return {
        "unread": [str(unread.outcome), unread.resumed_from is not None, said_in(unread)],
        "warned": said_in(warned),
        "error": error,
    }


@case
def newer_checkpoint_wins(folder: Path) -> Any:
    """ModelCheckpoint's last.ckpt is of the end of an epoch, ours of the middle of the next, or of the one before."""

    def trained(at: int | None, ckpt_path: Any) -> tuple[BackpropCallback, list[Any]]:
        ours = boxed("wins")
        _BEGINS.clear()
        striking = [] if at is None else [Striking(at, "control", ours)]
        kept = callbacks.ModelCheckpoint(folder / "kept", save_last=True)
        made, module = trainer(*striking, kept, ours, enable_checkpointing=True), Net()
        module.on_train_start = lambda: _BEGINS.append(made.global_step)
        fit(made, module, ckpt_path=ckpt_path)
        return ours, [str(ours.outcome), _BEGINS[0], made.global_step, str(ours.resumed_from)[-12:]]

    first, one = trained(15, "last")  # theirs at 10, ours at 12
    second, two = trained(3, "last")
    whole = trainer(max_epochs=2, max_steps=18)
    fit(whole)
    whole.save_checkpoint(folder / "mine.ckpt")
    third, three = trained(None, folder / "mine.ckpt")
    return {"fits": [one, two, three], "said": [said_in(ours) for ours in (first, second, third)]}


@case
def notebook(folder: Path) -> Any:
    """One Trainer and one callback, fit again and again in one process."""
    ours = boxed("notebook")
    striking = Striking(15, "control", ours)
    made = trainer(striking, ours)
    module = fit(made)
    outcomes = [str(ours.outcome)]
    striking.at = 30
    fit(made, module)
    outcomes.append(str(ours.outcome))
    fit(made, module)
    outcomes.append(str(ours.outcome))
    return {"outcomes": outcomes, "step": made.global_step, "resumed": str(ours.resumed_from)[-4:]}


@case
def passed_over(folder: Path) -> Any:
    """What a script reads behind a fit, trained and then complete; its callback exchanges weights when it ends."""

    class Ends(pl.Callback):  # type: ignore[misc,name-defined]
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            module.history = [*getattr(module, "history", []), trainer.global_step]

        def on_train_end(self, trainer: Any, module: Any) -> None:
            module.history.append("end")
            for parameter in module.parameters():
                parameter.data.mul_(0.5)

    def trained(**keywords: Any) -> Any:
        made = trainer(Ends(), boxed("over", **keywords), max_epochs=1)
        module = fit(made)
        seen = {name: float(value) for name, value in made.callback_metrics.items()}
        return [seen, module.history, digest(dict(module.state_dict())), torch.rand(1).item()]

    return [trained(), trained(resume=True)]


@case
def steps_by_hand(folder: Path) -> Any:
    """Manual optimization that steps the optimizer itself and not Lightning's wrapper, as SAM's two halves do."""

    class ByHand(Net):
        def __init__(self) -> None:
            super().__init__("sgd")
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            optimizer: Any = self.optimizers(use_pl_optimizer=False)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            return loss

    ours = boxed("by_hand")
    fit(trainer(Striking(5, "sigterm", ours), ours), ByHand())
    return [str(ours.outcome), str(ours.checkpoint)[-12:]]


@case
def unrecorded(folder: Path) -> Any:
    """The run's folder is removed while it trains: `fit` returns all the same."""
    ours = boxed("unrecorded")

    class Removes(pl.Callback):  # type: ignore[misc,name-defined]
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, number: int
        ) -> None:
            if trainer.global_step == 3:
                shutil.rmtree(Path(os.environ["BACKPROP_HOME"]) / "runs/unrecorded")

    made = trainer(Removes(), ours)
    fit(made)
    return {"outcome": str(ours.outcome), "step": made.global_step}


@case
def cannot_open(folder: Path) -> Any:
    """The box cannot be opened: the user reads why."""
    ours = BackpropCallback("10h", resume=folder / "nothing")
    try:
        fit(trainer(ours))
    except Exception as error:
        return {"error": str(error), "outcome": str(ours.outcome), "left": ours.remaining}


@case
def own_error(folder: Path) -> Any:
    """An error of the user's stays what it is, and the record says so."""

    class Failing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.global_step == 4:
                raise ZeroDivisionError("of the user's own")
            return super().training_step(batch, batch_idx)

    ours = boxed("error")
    on_error = callbacks.OnExceptionCheckpoint(folder)
    try:
        fit(trainer(on_error, ours, enable_checkpointing=True), Failing())
    except ZeroDivisionError as error:
        return {
            "error": str(error),
            "outcome": str(ours.outcome),
            "saved": (folder / "on_exception.ckpt").exists(),
        }


@case
def left_alone(folder: Path) -> Any:
    """validate, test, predict, the tuner and fast_dev_run open no box."""
    ours = BackpropCallback("10h", run="alone")
    module = Net()
    made = trainer(ours, default_root_dir=folder)
    made.validate(module, validation(), verbose=False)
    module.lr = 0.01
    pl.tuner.Tuner(made).lr_find(module, loader(), num_training=5, update_attr=False)
    made.test(module, validation(), verbose=False)
    made.predict(module, validation())
    fit(trainer(ours, fast_dev_run=True), module)
    return {"opened": ours.run_id, "outcome": str(ours.outcome)}


@case
def csv_rows(folder: Path) -> Any:
    """A CSVLogger with a fixed version, cut twice: once flushed after every row, once with rows that are not in the file."""

    def logged(name: str, every: int, at: list[int | None]) -> str:
        outcomes = []
        for number, stop_at in enumerate(at):
            seed(1)
            made = pl.loggers.CSVLogger(folder, name=name, version="", flush_logs_every_n_steps=every)
            ours = boxed(f"csv-{name}", checkpoint_every=0.001)
            striking = [] if stop_at is None else [Striking(stop_at, "control", ours)]
            fit(trainer(*striking, ours, logger=made, log_every_n_steps=1))
            outcomes.append(str(ours.outcome))
            if number == 0 and stop_at is not None:  # what a killed attempt would leave behind
                with (folder / name / "metrics.csv").open("a") as file:
                    file.write("9,9,9\n")
        assert outcomes == ["stopped"] * (len(at) - 1) + ["completed"], outcomes
        return (folder / name / "metrics.csv").read_text()

    whole = logged("whole", 100, [None])
    return {
        "rows": len(whole.splitlines()),
        "flushed": logged("flushed", 1, [15, 7, None]) == whole,
        "buffered": logged("buffered", 100, [15, 7, None]) == whole,
    }


class Scored(Net):
    """The second of three epochs is the best one."""

    def on_validation_epoch_end(self) -> None:
        self.log("score", [3.0, 1.0, 2.0][min(2, self.current_epoch)])


def cut_with(logger_kind: Any, folder: Path) -> Any:
    """A logger without a version and ModelCheckpoint without dirpath, cut in the first epoch and behind the best one."""

    def attempt(name: str, at: int | None, **numbered: Any) -> tuple[BackpropCallback, Any]:
        ours = boxed(f"version-{name}", checkpoint_every=0.001)
        kept = callbacks.ModelCheckpoint(monitor="score", save_top_k=1, filename="{epoch}")
        logger = logger_kind(folder, name=name, **numbered)
        striking = [] if at is None else [Striking(at, "control", ours)]
        made = trainer(*striking, kept, ours, logger=logger, log_every_n_steps=1, enable_checkpointing=True)
        fit(made, Scored())
        return ours, kept

    def tree(name: str) -> list[str]:
        files = [path for path in sorted((folder / name).rglob("*")) if path.is_file()]
        return [str(path.relative_to(folder / name)) for path in files if not path.name.startswith("events.")]

    seed(1)
    whole = attempt("whole", None)[1]
    seed(1)
    cut = [attempt("cut", at)[1] for at in (8, 18, None)][-1]
    rows = [folder / name / "version_0" / "metrics.csv" for name in ("whole", "cut")]
    chosen = [attempt("chosen", at, version=number)[0] for at, number in ((15, 3), (None, 7))]
    return {
        "same_files": tree("whole") == tree("cut"),
        "files": tree("cut"),
        "folders": sorted(path.name for path in (folder / "cut").iterdir()),
        "same_rows": len({path.read_text() for path in rows if path.exists()}) <= 1,
        "best": [[Path(kept.best_model_path).name, float(kept.best_model_score)] for kept in (whole, cut)],
        "chosen": [
            [str(ours.outcome) for ours in chosen],
            sorted(p.name for p in (folder / "chosen").iterdir()),
        ],
    }


@case
def version_folder(folder: Path) -> Any:
    """With Lightning's default logger where there is no TensorBoard."""
    return cut_with(pl.loggers.CSVLogger, folder)


@case
def version_folder_of_tensorboard(folder: Path) -> Any:
    """With Lightning's default logger."""
    installed = any(importlib.util.find_spec(name) for name in ("tensorboard", "tensorboardX"))
    return cut_with(pl.loggers.TensorBoardLogger, folder) if installed else None


@case
def inside_validation(folder: Path) -> Any:
    """A deadline inside a validation is kept, and the validation is done again from its start."""
    seed(1)
    whole = WitnessLogger()
    made = trainer(logger=whole)
    module = fit(made)
    seed(1)
    ours, logger = boxed("inside"), WitnessLogger()
    fit(trainer(Striking(12, "deadline", ours), ours, logger=logger))
    position = ours._fit.session.checkpoint.facts
    seed(7)
    again = boxed("inside")
    last = fit(trainer(again, logger=logger))
    return {
        "outcomes": [str(ours.outcome), str(again.outcome)],
        "position": [position.step, position.epoch, position.batch, position.cursor],
        "same": digest(dict(last.state_dict())) == digest(dict(module.state_dict())),
        "logged": logger.seen == whole.seen,
    }


@case
def ctrl_c(folder: Path) -> Any:
    """Ctrl-C once leaves with a checkpoint; fit returns."""
    ours = boxed("ctrlc")

    class Interrupt(pl.Callback):  # type: ignore[misc,name-defined]
        def on_train_batch_start(self, *args: Any) -> None:
            if args[-1] == 5:
                os.kill(os.getpid(), signal.SIGINT)

    made = trainer(Interrupt(), ours)
    fit(made)
    return {"outcome": str(ours.outcome), "step": made.global_step, "checkpoint": ours.checkpoint.name}


@case
def unwritable_root(folder: Path) -> Any:
    """The Trainer's own folder cannot be written; ours can."""
    ours = boxed("root")
    made = trainer(Striking(15, "control", ours), ours, default_root_dir="/proc/nowhere")
    fit(made)
    return {"outcome": str(ours.outcome), "there": ours.checkpoint.is_dir()}


@case
def users_timer(folder: Path) -> Any:
    """The user's own Timer still ends the training, and that is completion."""
    ours = boxed("timer")
    made = trainer(callbacks.Timer({"seconds": 0}), ours)
    fit(made)
    return {"outcome": str(ours.outcome)}


@case
def periodic(folder: Path) -> Any:
    """Periodic checkpoints go through the reused buffers while training goes on, and resume as well as the last one."""
    ours = boxed("periodic", checkpoint_every=0.05, keep=40)
    clock = ours._clock

    class Leap(pl.Callback):  # type: ignore[misc,name-defined]
        def on_train_batch_start(self, *args: Any) -> None:
            clock.leap(12.0)
            while ours._fit.session.saver.busy:
                clock.sleep(0.001)

    made = trainer(Leap(), ours)
    module = fit(made)
    infos = ours._fit.session.saver.store.list()
    reasons = sorted({str(info.facts.reason) for info in infos})
    chosen = next(info for info in infos if info.step <= 17)
    again = boxed("second", resume=chosen.path)
    seed(99)
    other = fit(trainer(again))
    same = digest(dict(other.state_dict())) == digest(dict(module.state_dict()))
    return {"reasons": reasons, "same": same, "from": again.resumed_from == chosen.path, "step": chosen.step}


@case
def logged_metrics(folder: Path) -> Any:
    """What the module logs reaches the run's events, with the loss."""
    ours = boxed("metrics")

    class Slow(pl.Callback):  # type: ignore[misc,name-defined]
        def on_train_batch_start(self, *args: Any) -> None:
            ours._clock.leap(0.6)

    fit(trainer(Slow(), ours))
    progress = [event for event in events_of(ours) if "rate" in event]
    return {"keys": sorted(progress[-1]["values"]), "loss": isinstance(progress[-1]["loss"], float)}


@case
def workers_killed(folder: Path) -> Any:
    """A SIGTERM to the whole process group kills the loader's workers, too, and the next fetch says so."""

    class Dying:
        def __iter__(self) -> Any:
            for index, batch in enumerate(loader()):
                if index == 4:
                    os.kill(os.getpid(), signal.SIGTERM)
                    raise RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly")
                yield batch

        def __len__(self) -> int:
            return 10

    ours = boxed("group")
    made = trainer(ours, accumulate_grad_batches=3)
    made.fit(Net(), Dying(), validation())
    info = ours._fit.session.checkpoint
    return {"outcome": str(ours.outcome), "step": made.global_step, "batch": info.facts.batch}


def end_with_workers() -> None:
    """What a SIGTERM to the process group does: this process and the loaders' workers get it, from somebody outside."""
    workers = [child.pid for child in multiprocessing.active_children()]
    subprocess.run(["kill", "-TERM", *map(str, [os.getpid(), *workers])], check=True)
    for pid in workers:
        while Path(f"/proc/{pid}/stat").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text():
            signal.sigtimedwait([], 0.001)


@case
def group_signal(folder: Path) -> Any:
    """A stop signal to the whole process group in the middle of a step, and of a validation's batch."""

    class Ending(Net):
        at: tuple[str, int] = ("", 0)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.end("step")
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)
            self.end("validation")

        def end(self, where: str) -> None:
            if self.at == (where, self.global_step):
                self.at = ("", 0)
                end_with_workers()

    def trained(run: str, where: str, at: int) -> tuple[BackpropCallback, Any]:
        ours, module = boxed(run, grace=600), Ending()
        module.at = (where, at)
        validates = torch.utils.data.DataLoader(recipes.Points(40, seed=2), batch_size=4, num_workers=2)
        trainer(ours, max_epochs=2).fit(module, loader(num_workers=2), validates)
        return ours, digest(dict(module.state_dict()))

    seed(0)
    whole = trained("group-whole", "", 0)[1]
    made = {}
    for where, at in (("step", 13), ("validation", 10)):
        seed(0)
        first = trained(f"group-{where}", where, at)[0]
        seed(5)
        second, weights = trained(f"group-{where}", "", 0)
        stood = first._fit.session.checkpoint.facts
        made[where] = [
            str(first.outcome), stood.step, stood.cursor["pending"], str(second.outcome), weights == whole,
        ]  # fmt: skip
    return made


@contextmanager
def in_a_slurm_job() -> Iterator[Any]:
    """Lightning's plugin for it."""
    os.environ["SLURM_JOB_ID"], os.environ["SLURM_NTASKS"], os.environ["SLURM_JOB_NAME"] = "1", "1", "train"
    os.environ["SLURM_PROCID"] = os.environ["SLURM_LOCALID"] = os.environ["SLURM_NODEID"] = "0"
    try:
        yield importlib.import_module(f"{recipes.PACKAGE}.plugins.environments").SLURMEnvironment
    finally:
        for name in [name for name in os.environ if name.startswith("SLURM_")]:
            del os.environ[name]


@case
def slurm(folder: Path) -> Any:
    """With the SLURM plugin Lightning saves on SIGUSR1 and we on SIGTERM, that is said, and the newer of the two is used."""

    class Requeued(pl.Callback):  # type: ignore[misc,name-defined]
        def on_train_batch_start(self, made: Any, *args: Any) -> None:
            if made.global_step == self.at:
                os.kill(os.getpid(), signal.SIGUSR1)

        def __init__(self, at: int) -> None:
            super().__init__()
            self.at = at

    class Breaking(pl.Callback):  # type: ignore[misc,name-defined]
        def on_train_batch_start(self, made: Any, *args: Any) -> None:
            if made.global_step == 24 and not begun:
                begun.append(made.global_step)
                raise KeyError("the attempt is lost")

    begun: list[int] = []

    def trained(strikes: int | None, requeued: int = -1) -> tuple[Any, list[Any]]:
        ours = boxed("slurm")
        made = trainer(
            Striking(strikes, "sigterm", ours), Requeued(requeued), Breaking(), ours,
            plugins=[plugin()], default_root_dir=folder,
        )  # fmt: skip
        _BEGINS.clear()
        module = Net()
        module.on_train_start = lambda: _BEGINS.append(made.global_step)
        with suppress(KeyError):
            fit(made, module)
        saved = [path.name for path in folder.glob("hpc_ckpt_*")]
        return ours, [str(ours.outcome), _BEGINS[0], made.global_step, len(saved)]

    with in_a_slurm_job() as plugin:
        first, one = trained(15, requeued=5)  # Lightning's at 5, ours at 12
        second, two = trained(9)  # begins at 12: ours is newer
        _, three = trained(None, requeued=22)  # begins at 20, and is lost behind Lightning's at 22
        third, four = trained(None)  # begins at 22: Lightning's is newer
        alone, other = boxed("slurm-term"), folder / "other"
        on_term = plugin(requeue_signal=signal.SIGTERM)
        fit(trainer(Striking(15, "sigterm", alone), alone, plugins=[on_term], default_root_dir=other))
    return {
        "fits": [one, two, three, four],
        "said": [said_in(first), said_in(second), said_in(third), said_in(alone)],
        "alone": [str(alone.outcome), other.exists()],
    }


@case
def without_us(folder: Path) -> Any:
    def trained(name: str, *ours: Any) -> list[Any]:
        seed(0)
        recipes.SEEN.clear()
        module, keywords, fits = recipes.RECIPES[name]()
        trainer(*ours, *keywords.pop("callbacks", []), **keywords).fit(module, **fits)
        return [list(recipes.SEEN), digest(dict(module.state_dict()))]

    names = [name for name in recipes.RECIPES if name.startswith("loaders_made")]
    return {name: trained(name) == trained(name, boxed(name)) for name in names}


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    made: dict[str, Any] = {}
    for name, function in CASES.items():
        if len(sys.argv) > 2 and name not in sys.argv[2].split(","):
            continue
        seed(0)
        recipes.SEEN.clear()
        (folder / name).mkdir()
        try:
            made[name] = function(folder / name)
        except BaseException as error:
            traceback.print_exc()
            made[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(made))


__all__ = ["strike"]

if __name__ == "__main__":
    main()
