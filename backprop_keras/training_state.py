"""What one `fit` keeps: variables, generators, callbacks, the place in the data; taken and given back together."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.store import Loaded
from backprop_core.errors import StateMismatchError
from backprop_core.ports.framework import frameworks_in_use
from backprop_core.prove.witness import Witness
from backprop_core.script_state.unkept import Unkept
from backprop_core.session.session import Position
from backprop_keras import callback_states, variables
from backprop_keras.backends import active
from backprop_keras.building import build_as_planned, build_without_data, is_built, layers_are_built, plan
from backprop_keras.dataloader_state import DataPlace
from backprop_keras.export import FIT as _FIT
from backprop_keras.export import weights_layout
from backprop_keras.last_callback import FitArguments
from backprop_keras.script_watch import FitWatch

_OWN = "backprop."
_CALLBACKS, _RANDOM, _SCRIPT = (_OWN + part for part in ("callbacks", "random", "script"))
_HINT = "Run the script as it was, or start from scratch with resume=False (a new run)."


class FitState:
    """All state of one `fit`, by name. It is the session's `TrainingState`.

    Attributes:
        epoch: the epoch that is trained, counted from 0.
        batch: batches of it that are trained.
        logs: what the last batch logged, unread.
        edge: the number of batches at which the epoch is over, where Keras knows it.
        say: tells the user something once.
    """

    def __init__(self, model: Any, fit: FitArguments) -> None:
        known = [framework.translator for framework in frameworks_in_use()]
        self.translators: Sequence[Translator] = (*known, NumpyTranslator())
        self.epoch = 0
        self.batch = 0
        self.logs: Mapping[str, Any] = {}
        self.edge: float = float("inf")
        self._model = model
        self._fit = fit
        self.say: Callable[[str], None] = lambda text: None
        self.data = DataPlace(fit.epoch_iterator, fit.validation_x)
        self.script = FitWatch(model, fit, self.translators, self.data.source)
        self.data.pass_begins = self._pass_begins
        self.data.say = self._tell
        self._steps_before = 0
        self._held: dict[str, Any] = {}
        self._held_data: dict[str, Any] | None = None
        self._held_random: dict[str, Any] = {}
        self._held_script: Any = None
        self._layout: list[Any] | None = None

    def _tell(self, text: str) -> None:
        if text:
            self.say(text)

    # -- the time that passes ----------------------------------------------------------------------------------

    def epoch_begins(self, epoch: int) -> None:
        """All callbacks have heard of it."""
        self.epoch = epoch
        self.data.epoch_begins()
        self.script.note_touched()
        self._find_edge()
        lost = self.data.lost_order or active().order_is_lost(self._fit.epoch_iterator)
        if lost:
            self.say(lost)

    def _pass_begins(self) -> None:
        """A PyDataset has heard of the epoch, which it does behind the callbacks."""
        if self.data.source.dataset is not None and not self.batch:
            self.script.note_touched()

    def _find_edge(self) -> None:
        length = self.data.length
        self.edge = float("inf") if length is None else length

    def epoch_is_done(self) -> None:
        """Its end has been heard by all callbacks."""
        self._steps_before += self.batch
        self.epoch, self.batch = self.epoch + 1, 0
        self._held, self._held_data = {}, None

    def hold_place(self, *, validates: bool) -> None:
        """The epoch's last batch is trained. What Keras does behind it is no part of the place to come back to: it makes
        one more iterator, for which PyTorch draws, and tells a PyDataset of the epoch's end, which may shuffle. A resumed
        process does that again.

        Args:
            validates: hooks run before the next boundary that a resumed process runs again; they may change that state.
        """
        with self.data.source.held.still():
            self._held_data = self.data.position(self.batch, exhausted=self.batch < self.edge)
            self._held_random = self.data.randomness()
            self._held_script = self.script.capture() if validates else None

    def hold(self) -> None:
        """A validation follows: it uses the metrics and generators of training, so they are set aside."""
        if self._held_data is None:
            self.hold_place(validates=True)
        metrics = variables.arrays(variables.metric_variables(self._attached()))
        self._held = {
            "metrics": {path: np.array(array) for path, array in metrics.items()},
            _RANDOM: self._held_random,
            _SCRIPT: self._held_script,
        }

    def validates_now(self) -> bool:
        """Whether Keras validates at the end of this epoch."""
        fit = self._fit
        return fit.validates and bool(
            type(self._model)._should_eval(self._model, self.epoch, fit.validation_freq)
        )

    # -- TrainingState -----------------------------------------------------------------------------------------------

    def _attached(self) -> Any:
        active().attach(self._model)
        return self._model

    def states(self) -> Mapping[str, object]:
        model = self._attached()
        optimizers = variables.optimizers_of(model)
        states: dict[str, Any] = {"model": variables.arrays(variables.model_variables(model))}
        for name, optimizer in optimizers.items():
            states[name] = variables.arrays(variables.named(optimizer.variables))
        states["metrics"] = variables.arrays(variables.metric_variables(model))
        states[_FIT] = {
            "backend": keras.backend.backend(),
            "step": self._step(),
            "epoch": self.epoch,
            "batch": self._trained(),
            "logs": _numbers(self.logs),
            "optimizers": {name: _kind_of(optimizer) for name, optimizer in optimizers.items()},
            "weights_h5": self._layout_of(model),
            "built": plan(model),
        }
        states[_CALLBACKS] = callback_states.capture(self._fit.callbacks)
        with self.data.source.held.still():
            states[_FIT]["data"] = self._held_data or self.data.position(self.batch)
            states[_RANDOM] = self.data.randomness()
            states[_SCRIPT] = self.script.capture()
        return {**states, **self._held}

    def _layout_of(self, model: Any) -> Any:
        if self._layout is None and layers_are_built(model):
            self._layout = [weights_layout(model, variables.model_variables(model))]
        return self._layout[0] if self._layout else None

    def _trained(self) -> int:
        """The last execution of an epoch may have had fewer batches than its end says."""
        return int(min(self.batch, self.edge))

    def _step(self) -> int:
        return self._steps_before + self._trained()

    def witness(self) -> Witness:
        model = self._attached()
        values: dict[str, Any] = {}
        for path, array in variables.arrays(variables.named(model.variables)).items():
            values[f"{'seed' if 'seed_generator' in path else 'model'} {path}"] = array
        for name, optimizer in variables.optimizers_of(model).items():
            # One that is built by its first step has longer paths than one that was built before it.
            for place, array in enumerate(variables.arrays(variables.named(optimizer.variables)).values()):
                slot = optimizer.variables[place].path.rpartition("/")[2]
                values[f"{name} {slot} {place}"] = array
        metrics = variables.arrays(variables.metric_variables(model))
        values |= {f"metrics {path}": array for path, array in metrics.items()}
        return Witness(self.script.state, (), values, self.script.is_stored)

    def unkept(self) -> Sequence[Unkept]:
        return self.script.unkept()

    def position(self) -> Position:
        return Position(
            self._step(), self.epoch, self._trained(), {"epoch": self.epoch, "batch": self._trained()}
        )

    def environment(self) -> Mapping[str, Any]:
        return {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "numpy": np.__version__,
            "keras": keras.__version__,
            "keras_backend": keras.backend.backend(),
            "keras_dtype_policy": keras.config.dtype_policy().name,
            "keras_jit_compile": bool(self._model.jit_compile),
            **active().environment(),
        }

    def window_rest_s(self, step_s: float) -> float:
        return 0.0  # the accumulated gradients are variables and are saved

    def total_steps(self) -> int | None:
        length = self.data.length
        return None if length is None else length * self._fit.epochs

    def learning_rate(self) -> float | None:
        if (
            keras.backend.backend() == "jax"
        ):  # its variables are elsewhere during a fit, and fetching them costs a step
            return None
        try:
            return float(keras.ops.convert_to_numpy(self._model.optimizer.learning_rate))
        except Exception:  # several optimizers, or none
            return None

    def synchronize(self) -> None:
        active().wait(self.logs)

    # -- giving back -------------------------------------------------------------------------------------------

    def meet(self, loaded: Loaded) -> None:
        """See whether the checkpoint fits, before any value is changed.

        Raises:
            StateMismatchError: it does not; the message says why.
        """
        model, saved = self._model, loaded.states.get(_FIT)
        if not isinstance(saved, Mapping) or _CALLBACKS not in loaded.states:
            self._refuse(loaded, "it was not made by BackpropCallback")
        fit: Any = saved
        self._check_optimizers(loaded, fit)
        self._build_for(loaded, fit)
        exact = fit["backend"] == keras.backend.backend()
        parts = {"model": variables.model_variables(model), "metrics": variables.metric_variables(model)}
        parts |= {name: variables.named(o.variables) for name, o in variables.optimizers_of(model).items()}
        for name, here in parts.items():
            why = variables.mismatch(here, loaded.states.get(name), exact=exact)
            if why is not None:
                self._refuse(loaded, f"what was saved as {name!r} {why}")
        why = self.data.mismatch(fit["data"], fit["batch"])
        if why is not None:
            self._refuse(loaded, f"it {why}")
        self.epoch, self.batch = fit["epoch"], fit["batch"]
        self._steps_before = fit["step"] - fit["batch"]

    def _build_for(self, loaded: Loaded, fit: Any) -> None:
        """Make variables that Keras would make with the first batch, as far as the checkpoint has values for them."""
        metrics = len(_part(loaded.states, "metrics")) > len(variables.metric_variables(self._model))
        model, planned = self._model, fit.get("built")  # checkpoints of before have no plan
        optimizer = planned is None or "optimizer" in planned["optimizers"]
        if metrics or not (is_built(model) if optimizer else layers_are_built(model)):
            try:
                build_without_data(model, self._fit.epoch_iterator, metrics=metrics, optimizer=optimizer)
            except StateMismatchError:
                if planned is None:
                    raise
        if planned is not None:
            build_as_planned(model, planned)

    def _check_optimizers(self, loaded: Loaded, fit: Any) -> None:
        here = {name: _kind_of(optimizer) for name, optimizer in variables.optimizers_of(self._model).items()}
        if here != fit["optimizers"]:
            then, now = (
                " and ".join(kinds.values()) or "no optimizer" for kinds in (fit["optimizers"], here)
            )
            self._refuse(loaded, f"it was trained with {then}, but the model is compiled with {now}")

    def _refuse(self, loaded: Loaded, why: str) -> None:
        raise StateMismatchError(
            f"Checkpoint {loaded.info.path} does not fit this training: {why}. Nothing was restored.", _HINT
        )

    def restore(self, loaded: Loaded, *, training: bool) -> None:
        """Put everything back: variables, callbacks, the place in the data, the generators.

        Args:
            training: epochs follow, so the data is led to its place; else only the state counts.

        Raises:
            StateMismatchError: it does not fit; nothing was restored.
        """
        model, states = self._model, loaded.states
        self.meet(loaded)
        fit: Any = states[_FIT]
        variables.assign(variables.model_variables(model), _part(states, "model"))
        for name, optimizer in variables.optimizers_of(model).items():
            variables.assign(variables.named(optimizer.variables), _part(states, name))
        variables.assign(variables.metric_variables(model), _part(states, "metrics"))
        if (
            training and not fit["batch"]
        ):  # an epoch begins: what was saved are the sums of the one before, or its validation
            model.reset_metrics()
        callback_states.restore(self._fit.callbacks, states[_CALLBACKS])
        self.logs = dict(fit["logs"])
        if training:
            self.data.resume(fit["data"], fit["batch"], states[_RANDOM])
            self._tell(self.data.caveat)
            self._find_edge()
        else:
            self.data.set_randomness(states[_RANDOM])

    def replay_source(self, loaded: Loaded) -> None:
        """Before anything of the script's comes back: code that makes the batches makes them once more, as it did then."""
        fit: Any = loaded.states.get(_FIT)
        if isinstance(fit, Mapping):
            self.data.replay_source(fit["data"], fit["batch"])

    def restore_script(self, loaded: Loaded, *, midway: bool) -> None:
        """What the script had changed: between two epochs before the next begins, else at the very batch."""
        fit: Any = loaded.states.get(_FIT)
        if isinstance(fit, Mapping) and bool(fit["batch"]) is midway:
            for one in self.script.restore(loaded.states.get(_SCRIPT)):
                self.say(f"The checkpoint holds {one.name}, which could not be restored: {one.why}.")
            self.script.settled()


def _part(states: Mapping[str, object], name: str) -> Mapping[str, Any]:
    part = states[name]
    assert isinstance(part, Mapping)
    return part


def _kind_of(optimizer: Any) -> str:
    inner = getattr(optimizer, "inner_optimizer", None)
    name = next(
        k.__name__ for k in type(optimizer).__mro__ if not k.__module__.startswith("keras.src.backend")
    )
    return f"{name} of {_kind_of(inner)}" if inner is not None else name


def _numbers(logs: Any) -> dict[str, float]:
    """Logs as plain numbers; this waits for the device, so it happens for a save only."""
    result: dict[str, float] = {}
    for key, value in (logs or {}).items():
        if isinstance(value, Mapping):
            result |= _numbers(value)
            continue
        with contextlib.suppress(TypeError, ValueError):
            result[key] = float(keras.ops.convert_to_numpy(value))
    return result
