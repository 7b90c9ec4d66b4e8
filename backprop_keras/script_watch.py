"""What a script changes while Keras trains: attributes of callbacks, of the model and its layers, and of a PyDataset, its
globals, and the locals of its functions around `fit`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras

from backprop_core.checkpoints.arrays import Translator
from backprop_core.loop.trainer_frames import TrainerFrames
from backprop_core.ports.framework import frameworks_in_use
from backprop_core.script_state.object_watch import ObjectWatch, callbacks_by_name, package_of
from backprop_core.script_state.script_classes import is_the_scripts
from backprop_core.script_state.state import Root, ScriptState
from backprop_core.script_state.unkept import Unkept
from backprop_keras import variables
from backprop_keras.building import layers_are_built
from backprop_keras.data_source import DataSource
from backprop_keras.last_callback import FitArguments
from backprop_keras.script_parts import script_parts, stored_variables

_FIT = TrainerFrames(("keras.",), "fit")
_PACKAGES = frozenset({"keras", "tensorflow", "jax", "jaxlib"})
_GENERATOR = "tensorflow.python.ops.stateful_random_ops"


class FitWatch(ObjectWatch):
    """The state of the script around one `fit`."""

    def __init__(
        self, model: Any, fit: FitArguments, translators: Sequence[Translator], data: DataSource
    ) -> None:
        self._model, self._fit, self._data = model, fit, data
        self._known: frozenset[int] = frozenset()
        self._late: list[Root] | None = None
        self._reached: frozenset[int] = frozenset()
        frameworks = frameworks_in_use()
        super().__init__(
            self._roots, self.is_stored, frameworks, translators, self._look_again, self._read_by_fit
        )
        self._around = ScriptState(
            self._only_watched,
            tracked_elsewhere=self._is_stored_or_reached,
            frameworks=frameworks,
            translators=translators,
            read_by_loops=self._read_by_fit,
        )
        """What is ahead of training nobody knows how far, and is told of when it changes."""

    def begin(self) -> None:
        super().begin()
        if self._only_watched() and not self._around.has_baseline:
            self._reached = self.state.reached()
            self._around.baseline()
        if self._late is None and layers_are_built(self._model):
            self._late = []

    def is_built(self) -> None:
        """A batch has been trained: layers that building has made are looked at from now on."""
        if self._late is not None or not self.state.has_baseline:
            return
        self._refresh()
        known = self.state.reached()
        layers = self._model._flatten_layers(include_self=False)
        self._late = [
            (f"model layer {number}", layer) for number, layer in enumerate(layers) if id(layer) not in known
        ]
        self.state.extend_baseline()

    def unkept(self) -> list[Unkept]:
        found = super().unkept()
        if not self._around.has_baseline:
            return found
        self._reached = self.state.reached()
        ahead = [node for node in self._around.changed()["nodes"] if not self._data.keeps(node)]
        return [*found, *self._around.unkept(), *(one for node in ahead for one in read_ahead(node))]

    def _roots(self) -> Sequence[Root]:
        data = self._data
        roots = [*callbacks_by_name(self._fit.callbacks, _is_looked_into), ("model", self._model)]
        roots += [] if data.dataset is None else [("data", data.dataset)]
        roots += [*_layers_of(self._model), *(self._late or ())]
        return roots if data.repeats_code else [*roots, *_FIT.namespaces()]

    def _only_watched(self) -> Sequence[Root]:
        data = self._data
        shared = data.shared_dataset
        roots: list[Root] = [] if shared is None else [("data", shared)]
        return [*roots, *_FIT.namespaces()] if data.repeats_code else roots

    def _is_stored_or_reached(self, value: object) -> bool:
        """For what is only watched."""
        if value is self._data.shared_dataset:
            return False
        return self.is_stored(value) or id(value) in self._reached

    def _read_by_fit(self) -> Collection[int]:
        """A Python generator that is trained with comes to its place with the data. What a PyDataset holds does not: a
        resume does not ask it again for the batches that are trained.
        """
        read = (self._fit.x, self._fit.validation_x)
        return tuple(id(one) for one in read if not isinstance(one, keras.utils.PyDataset))

    def _look_again(self) -> None:
        """A first batch makes variables, and on PyTorch their tensors may be reached without them."""
        owners = [self._model, *variables.optimizers_of(self._model).values()]
        self._known = frozenset().union(*(stored_variables(owner) or () for owner in owners))

    def is_stored(self, value: object) -> bool:
        """Whether the checkpoint has it anyway, or it is only watched, or Keras' own and nothing that could hold state."""
        if id(value) in self._known or value is self._data.shared_dataset:
            return True
        kind = type(value)
        if package_of(value) not in _PACKAGES or kind.__module__ == _GENERATOR:
            return False
        return script_parts(kind) is None and not hasattr(kind, "__array__")


def _is_looked_into(callback: Any) -> bool:
    """Whether a callback is the script's, or one of Keras' that calls functions of the script's; the others are known."""
    return is_the_scripts(type(callback)) or script_parts(type(callback)) is not None


def _layers_of(model: Any) -> list[Root]:
    """The layers of a model by the names that its class gives them, else by their places in its list of layers."""
    if isinstance(model, keras.Sequential) or hasattr(model, "_operations"):
        return [(f"model.layers[{number}]", layer) for number, layer in enumerate(model.layers)]
    own = {**vars(model).get("_modules", {}), **vars(model)}  # on PyTorch a layer's layers are its modules
    return [
        (f"model.{name}", one) for name, one in own.items() if isinstance(one, keras.Layer) and name[0] != "_"
    ]


def read_ahead(node: Mapping[str, Any]) -> list[Unkept]:
    """What the code behind the training data may have changed ahead of training."""
    slots = node["data"].get("slots") if isinstance(node["data"], Mapping) else None
    names = [f"{node['name']}.{slot}" for slot in slots] if slots else [node["name"]]
    if node["path"][0][1] == "data":
        why = "its workers read the dataset ahead of training"
    else:
        why = "the training data runs Python code ahead of training, and a resume runs it again"
    what_to_do = "Keep it on a callback or on the model, or use a PyDataset with workers=1."
    return [Unkept(name, str(node["type"]) or "variable", why, what_to_do) for name in names]
