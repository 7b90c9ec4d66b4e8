"""What a checkpoint of a Trainer's training holds, and how it is put back. It is the session's `TrainingState`."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import accelerate
import numpy as np
import torch
import transformers
from torch import nn
from torch.optim import Optimizer

from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.shards import SHARDS, OtherParts, Shards
from backprop_core.loop.spread_arrays import SpreadArrays
from backprop_core.ports.framework import Tracked
from backprop_core.prove.witness import Witness
from backprop_core.script_state.state import has_parts
from backprop_core.script_state.trackables import StateDictTracked, restore_all
from backprop_core.script_state.unkept import Unkept, together
from backprop_core.session.learning_rate import rate_of
from backprop_core.session.rank_parts import RANKS
from backprop_core.session.session import Position
from backprop_torch.framework import TorchFramework
from backprop_torch.objects import ModuleRest, ModuleTracked, OptimizerRest, OptimizerTracked
from backprop_torch.rng_state import Randomness
from backprop_transformers import callback_states
from backprop_transformers.dataloader_state import TrainLoaderWatch
from backprop_transformers.eval_loaders import EvalLoaders
from backprop_transformers.script_watch import TrainerScriptWatch, gathers_as_evaluated, is_theirs, plain

OURS = "backprop.transformers"
_REST = "backprop.rest"


class Stage(StrEnum):
    """Where a boundary lies."""

    STEP = "step"
    """Behind a step, and all that belongs to it is done."""
    STEP_PENDING = "step_pending"
    """Behind a step, before the evaluation or Trainer's own save that follows it."""
    EPOCH_PENDING = "epoch_pending"
    """Behind the last step of an epoch, before the evaluation or save that follows the epoch's end."""
    BETWEEN = "between"
    """Behind an epoch and all that belongs to it."""
    OVER = "over"
    """Behind the whole training."""


class TrainState:
    """Takes a Trainer apart at a boundary.

    Attributes:
        epoch: the epoch that is trained, counted from 0.
        batch: batches of it that are trained.
        stage: where the boundary lies.
        loader: the training loader, once Trainer has made it.
        eval_loaders: those of its evaluations.
        step_values: what Trainer logs of the newest step besides its loss: `grad_norm` and `learning_rate`.
        steps_planned: the training's length, once Trainer knows it.
        elapsed_s: tells the seconds that training has taken in all attempts.
        processes, other_ranks: see `together.SharedTrainingState`.
    """

    def __init__(self, trainer: Any, elapsed_s: Callable[[], float]) -> None:
        self.trainer = trainer
        self.processes = 1
        self.other_ranks: Callable[[Mapping[str, object]], list[Any]] | None = None
        self.other_shards: Callable[[], OtherParts] | None = None
        self.framework = TorchFramework()
        self.translators: Sequence[Translator] = [self.framework.translator, NumpyTranslator()]
        self._spread = SpreadArrays([self.framework])
        self.randomness = Randomness()
        self.epoch = -1
        self.batch = 0
        self.stage = Stage.STEP
        self.loader: TrainLoaderWatch | None = None
        self.eval_loaders = EvalLoaders(trainer)
        self.step_values: dict[str, Any] = {}
        self.elapsed_s = elapsed_s
        self._earlier_pass: Any = None
        self._frozen: dict[str, Any] | None = None
        self._late: dict[str, Any] = {}
        self._late_source = ""
        self.script = TrainerScriptWatch(trainer, self.framework, self.translators)
        self.script.of_loader = lambda: () if self.loader is None else self.loader.reached()
        self.say: Callable[[str], None] = lambda text: None

    # -- TrainingState -----------------------------------------------------------------------------------------------

    def states(self) -> Mapping[str, object]:
        own = self.own_part()
        states = {**self._of_all(), **own}
        if self.other_ranks is not None:
            states[RANKS] = self.other_ranks(own)
        return self._spread.to_save(states, self._other_parts()) if self.is_spread() else states

    def is_spread(self) -> bool:
        """Whether FSDP2 spreads model and optimizer over the processes."""
        return self._spread.are_in((self.trainer.model, self._optimizer()))

    def shards(self) -> Shards:
        return self._spread.divided(self._of_all())[1] if self.is_spread() else {}

    def _of_all(self) -> dict[str, object]:
        """The states that all processes have together, as they lie on this one."""
        return {
            **{name: tracked.capture() for name, tracked in self._tracked().items()},
            _REST: {name: tracked.capture() for name, tracked in self._rests().items()},
        }

    def _other_parts(self) -> OtherParts | None:
        if self.processes == 1:
            return lambda: ()
        return None if self.other_shards is None else self.other_shards()

    def own_part(self) -> dict[str, object]:
        """What only Trainer has. Each process has its own place in the data, random generators and running loss."""
        return {OURS: self._own() if self._frozen is None else self._frozen}

    def witness(self) -> Witness:
        trainer = self.trainer
        scheduler = getattr(trainer.lr_scheduler, "scheduler", trainer.lr_scheduler)
        roots = [("optimizer", self._optimizer()), ("scheduler", scheduler)]
        scaler = getattr(trainer.accelerator, "scaler", None)
        roots += [] if scaler is None else [("scaler", scaler)]
        stored = self.framework.stored_with({})
        state = {name: getattr(trainer.state, name) for name in ("epoch", "best_metric", "log_history")}
        loss = {"running loss": trainer._tr_loss, "logged loss": trainer._total_loss_scalar}
        return Witness(
            self.script.state,
            roots,
            {"trainer.state": state, "trainer": loss},
            lambda value: stored(value) or (is_theirs(value) and not isinstance(value, nn.Module)),
        )

    def unkept(self) -> Sequence[Unkept]:
        return together(self.script.unkept(), self.loader.unkept() if self.loader is not None else ())

    def position(self) -> Position:
        epoch, batch, stage = self._place()
        return Position(self.trainer.state.global_step, epoch, batch, {"stage": stage.value})

    def environment(self) -> Mapping[str, Any]:
        args = self.trainer.args
        return {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "numpy": np.__version__,
            "transformers": transformers.__version__,
            "accelerate": accelerate.__version__,
            "ranks": self.processes,
            "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
            **self.framework.environment(),
        }

    def window_rest_s(self, step_s: float) -> float:
        return 0.0  # boundaries lie at optimizer steps only

    def total_steps(self) -> int | None:
        return self.trainer.state.max_steps or None

    def learning_rate(self) -> float | None:
        return rate_of((self.trainer.optimizer,))

    def synchronize(self) -> None:
        self.framework.synchronize()

    # -- taking ------------------------------------------------------------------------------------------------

    @property
    def frozen(self) -> bool:
        return self._frozen is not None

    def freeze(self) -> None:
        """An evaluation begins: whatever is asked for until `thaw` is answered as of now, weights excepted."""
        self._frozen = self._own()

    def thaw(self) -> None:
        """The evaluation is over."""
        self._frozen = None

    def _tracked(self) -> dict[str, Tracked]:
        trainer = self.trainer
        optimizer, scaler = self._optimizer(), getattr(trainer.accelerator, "scaler", None)
        tracked: dict[str, Tracked] = {
            "model": ModuleTracked(trainer.model),
            "optimizer": OptimizerTracked(optimizer)
            if isinstance(optimizer, Optimizer)
            else StateDictTracked(optimizer),
            "scheduler": StateDictTracked(trainer.lr_scheduler),
        }
        return tracked if scaler is None else {**tracked, "scaler": StateDictTracked(scaler)}

    def _rests(self) -> dict[str, Tracked]:
        rests: dict[str, Tracked] = {"model": ModuleRest(self.trainer.model)}
        optimizer = self._optimizer()
        if isinstance(optimizer, Optimizer):
            rests["optimizer"] = OptimizerRest(optimizer, {"model": self.trainer.model})
        return rests

    def _optimizer(self) -> Any:
        return plain(self.trainer.optimizer)

    def _place(self) -> tuple[int, int, Stage]:
        """The same for the end of one epoch and the beginning of the next."""
        if self.stage is Stage.BETWEEN:
            return self.epoch + 1, 0, Stage.STEP
        return max(0, self.epoch), self.batch, self.stage

    def _own(self) -> dict[str, Any]:
        """What only Trainer has: copies of small things."""
        trainer, loader = self.trainer, self.loader
        epoch, batch, stage = self._place()
        random: Any = self.randomness.randomness()
        if loader is not None and self.stage is Stage.STEP and not batch and self.epoch >= 0:
            random = loader.start_of_pass() or random  # its first batch was being fetched
        others = trainer.callback_handler.callbacks
        state = {
            field.name: getattr(trainer.state, field.name) for field in dataclasses.fields(trainer.state)
        }
        state["log_history"] = list(trainer.state.log_history)
        state["stateful_callbacks"] = callback_states.exported([*others, trainer.control])
        return {
            "processes": self.processes,
            "place": {"epoch": epoch, "batch": batch, "stage": stage.value},
            "state": state,
            "control": {
                field.name: getattr(trainer.control, field.name)
                for field in dataclasses.fields(trainer.control)
            },
            "callbacks": callback_states.capture(others),
            "random": random,
            "loader": (None if loader is None else loader.position(batch)) or self._earlier_pass,
            "loader_rest": None if loader is None else loader.rest(),
            "eval_workers": self.eval_loaders.workers(),
            "loss": {
                "running": trainer._tr_loss.clone(),
                "logged": trainer._total_loss_scalar,
                "logged_at": trainer._globalstep_last_logged,
                "since": getattr(trainer, "_initial_global_step", 0),
            },
            "step_values": dict(self.step_values),
            "current_flos": trainer.current_flos,
            "gathers_as_evaluated": gathers_as_evaluated(trainer),
            "elapsed_s": self.elapsed_s(),
            "script": self.script.capture(),
        }

    # -- putting back ------------------------------------------------------------------------------------------

    def restore(self, states: Mapping[str, Any], source: str) -> Mapping[str, Any]:
        """Weights, optimizer, scheduler and scaler, or nothing. What `put_back` wants of model and optimizer is returned.

        Raises:
            StateMismatchError: one of them does not fit; nothing was restored.
        """
        if SHARDS in states or self.is_spread():
            states = self._spread.united(states, self._of_all(), {"optimizer": self._optimizer()})
        tracked = self._tracked()
        own: Any = states[OURS]
        unfit = {name for name, one in tracked.items() if name in states and one.mismatch(states[name])}
        if unfit or has_parts(own.get("script")):  # when every hook of the start has run it may fit
            self._late = {name: states[name] for name in tracked if name in states}
            self._late_source = source
            tracked = {} if unfit else tracked
        restore_all(tracked, states, source)
        return rest_of(states)

    def put_back(self, own: Mapping[str, Any], rest: Mapping[str, Any]) -> None:
        """What Trainer keeps outside of them, when its own preparations and `on_train_begin` are over."""
        trainer, loss = self.trainer, own["loss"]
        if self._late:
            self.script.restore(own.get("script"))
            late, self._late = self._late, {}
            restore_all(self._tracked(), late, self._late_source)
        restore_all(self._rests(), rest, "The checkpoint")
        trainer._tr_loss = loss["running"].to(trainer.args.device).clone()
        trainer._total_loss_scalar = loss["logged"]
        trainer._globalstep_last_logged = loss["logged_at"]
        trainer._initial_global_step = loss["since"]
        trainer.current_flos = own["current_flos"]
        if own.get("gathers_as_evaluated") and gathers_as_evaluated(trainer) is False:
            trainer.gather_function = trainer.accelerator.gather_for_metrics
        self.step_values = dict(own["step_values"])
        callback_states.restore(trainer.callback_handler.callbacks, own["callbacks"])
        self._earlier_pass = own["loader"]
        if self.loader is not None:
            self.loader.restore_rest(own["loader_rest"])
        self.eval_loaders.put_workers(own.get("eval_workers", {}))
        self.put_back_script(own)
        self.randomness.set_randomness(own["random"])

    def put_back_script(self, own: Mapping[str, Any]) -> None:
        """What the script's own classes had changed."""
        for one in self.script.restore(own.get("script")):
            self.say(f"The checkpoint holds {one.name}, which could not be restored: {one.why}.")

    def kept_meanwhile(self) -> Callable[[], None]:
        """What sets the random generators and the script's state to how they are now."""
        random, script = self.randomness.randomness(), self.script.capture()

        def put_back() -> None:
            self.script.restore(script)
            self.randomness.set_randomness(random)

        return put_back


def is_ours(states: Mapping[str, Any]) -> bool:
    """Whether a loaded checkpoint was made by this adapter."""
    ours = states.get(OURS)
    return {"model", "optimizer", "scheduler", _REST} <= states.keys() and isinstance(ours, Mapping)


def rest_of(states: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a loaded checkpoint belongs to model and optimizer and is not in their own files."""
    rest: Mapping[str, Any] = states[_REST]
    return rest


def running_loss(trainer: Any) -> torch.Tensor | None:
    """The mean loss since Trainer last logged it, unread; None right after."""
    steps = trainer.state.global_step - trainer._globalstep_last_logged
    return trainer._tr_loss / steps if steps > 0 else None
