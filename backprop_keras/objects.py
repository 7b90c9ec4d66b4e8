"""How Keras models, optimizers, metrics and single variables are kept by a time box around a loop of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import keras

from backprop_core.quick_dataclass import dataclass
from backprop_keras import rng_state, variables
from backprop_keras.backends import active
from backprop_keras.trained_objects import held_by_script


@dataclass(frozen=True, slots=True)
class VariablesTracked:
    """Anything with `variables`: a model, a layer, an optimizer, a metric. Saved by path, restored in place."""

    owner: Any

    def _variables(self) -> dict[str, Any]:
        return variables.named(self.owner.variables)

    def capture(self) -> object:
        return variables.arrays(self._variables())

    def mismatch(self, state: Any) -> str | None:
        if _is_optimizer(self.owner) and not self.owner.built and isinstance(state, Mapping):
            self._build_as_saved(state)
        here = self._variables()
        if not getattr(self.owner, "built", True) and isinstance(state, Mapping) and len(state) > len(here):
            call = (
                "optimizer.build(model.trainable_variables)"
                if _is_optimizer(self.owner)
                else "model.build(shape)"
            )
            return f"has {len(state)} variables, but here they do not exist yet: call {call} before the block"
        return variables.mismatch(here, state, exact=True)

    def restore(self, state: Any) -> None:
        variables.assign(self._variables(), state)

    def _build_as_saved(self, state: Mapping[str, Any]) -> None:
        """Build an optimizer whose first step would do that, for the variables of the script's models that it had."""
        models = [one for one in held_by_script(sys._getframe()) if isinstance(one, keras.Model)]
        here = {id(one): one for model in models for one in model.trainable_variables}
        saved = [one for one in here.values() if any(f"/{_slots_of(one)}_" in path for path in state)]
        if saved:
            self.owner.build(saved)


def _slots_of(variable: Any) -> str:
    """What the names of an optimizer's slots for it begin with."""
    return str(variable.path).replace("/", "_")


@dataclass(frozen=True, slots=True)
class MetricSums:
    """The running sums of a compiled model's metrics. `train_on_batch` of most versions goes on adding to them, and
    returns the means so far.
    """

    model: Any

    def capture(self) -> object:
        return variables.arrays(variables.metric_variables(self.model))

    def mismatch(self, state: object) -> str | None:
        return None if isinstance(state, Mapping) else "is not a set of variables"

    def restore(self, state: Any) -> None:
        """Those that are there. Metrics given to `compile` beside the loss are made by the first batch: they begin anew."""
        here = variables.metric_variables(self.model)
        both = {path: variable for path, variable in here.items() if path in state}
        saved = {path: state[path] for path in both}
        if variables.mismatch(both, saved, exact=True) is None:
            variables.assign(both, saved)


@dataclass(frozen=True, slots=True)
class VariableTracked:
    """A single `keras.Variable`, or the state of a `SeedGenerator`."""

    variable: Any

    def capture(self) -> object:
        return active().array(self.variable)

    def mismatch(self, state: Any) -> str | None:
        return variables.mismatch({"it": self.variable}, {"it": state}, exact=True)

    def restore(self, state: Any) -> None:
        self.variable.assign(active().value(state))


class KerasRandomness:
    """What `keras.random` without a seed and the backend's own operations draw from. Python's, numpy's and torch's
    generators have keepers of their own in a time box.
    """

    def capture(self) -> object:
        backend = keras.backend.backend()
        own = None if backend == "torch" else active().randomness()
        return {"keras": rng_state.keras_seed(), "backend": backend, "own": own}

    def mismatch(self, state: object) -> str | None:
        return None if isinstance(state, Mapping) else "is not a state of Keras' generators"

    def restore(self, state: Any) -> None:
        rng_state.set_keras_seed(state["keras"])
        if state["own"] is not None and state["backend"] == keras.backend.backend():
            active().set_randomness(state["own"])


def tracked(value: object) -> VariablesTracked | VariableTracked | None:
    """How to keep `value`, if it is one of Keras' objects."""
    if isinstance(value, keras.layers.Layer | keras.metrics.Metric) or _is_optimizer(value):
        return VariablesTracked(value)
    if isinstance(value, keras.Variable):
        return VariableTracked(value)
    if isinstance(value, keras.random.SeedGenerator):
        return VariableTracked(value.state)
    return None


def _is_optimizer(value: object) -> bool:
    return isinstance(value, keras.optimizers.Optimizer)
