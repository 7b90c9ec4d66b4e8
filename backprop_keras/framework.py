"""Keras, as the core sees it: for `backprop.timebox` around a loop of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from backprop_core.ports.framework import ProcessSetting, Tracked
from backprop_core.ports.loaders import LoaderReading, RandomnessKeeper
from backprop_core.ports.partial_framework import PartialFramework
from backprop_keras import objects
from backprop_keras.backends import active
from backprop_keras.pipelines import PassesTracked, PassLedger, PipelinePasses, PipelineReading, is_pipeline
from backprop_keras.script_parts import script_parts, stored_variables
from backprop_keras.trained_objects import KerasTrainedObjects
from backprop_keras.translator import KerasTranslator


class KerasFramework(PartialFramework):
    """Found by the core through the entry point `backprop.frameworks`. Its ranks, on the torch backend, are torch's."""

    name = "keras"

    def __init__(self) -> None:
        self.translator = KerasTranslator()
        self._ledger = PassLedger()

    def adopt(self, value: object) -> Tracked | None:
        return objects.tracked(value)

    def companion(self, value: object, tracked: Mapping[str, object]) -> Tracked | None:
        if is_pipeline(value):
            return PassesTracked(self._ledger.of(value))
        return objects.MetricSums(value) if isinstance(value, keras.Model) else None

    def script_parts(self, kind: type) -> frozenset[str] | None:
        return script_parts(kind)

    def stored_with(self, tracked: Mapping[str, object]) -> Callable[[object], bool]:
        """Variables of tracked models, optimizers and metrics, and all other tracked objects.

        What has these variables is looked into: a number on a layer is no variable of its.
        """
        known: set[int] = set()
        for value in tracked.values():
            own = stored_variables(value)
            known |= {id(value)} if own is None else own
        return lambda value: id(value) in known

    def randomness(self) -> Tracked:
        return objects.KerasRandomness()

    def settings(self) -> Mapping[str, ProcessSetting]:
        config = keras.config
        return {
            "keras floatx": ProcessSetting(config.floatx(), config.set_floatx),
            "keras epsilon": ProcessSetting(config.epsilon(), config.set_epsilon),
            "keras image data format": ProcessSetting(
                config.image_data_format(), config.set_image_data_format
            ),
            "keras dtype policy": ProcessSetting(config.dtype_policy().name, config.set_dtype_policy),
        }

    def environment(self) -> Mapping[str, Any]:
        return {
            "keras": keras.__version__,
            "keras_backend": keras.backend.backend(),
            "keras_dtype_policy": keras.config.dtype_policy().name,
            **active().environment(),
        }

    def reading(
        self, loader: object, randomness: RandomnessKeeper, *, replay: bool = False
    ) -> LoaderReading | None:
        return PipelineReading(loader, self._ledger.of(loader), randomness) if is_pipeline(loader) else None

    def synchronize(self) -> None:
        """A step of the user's own returns nothing that we could wait for; `box.log(loss=...)` waits when it is read."""

    def trained_objects(self) -> KerasTrainedObjects:
        return KerasTrainedObjects()

    def loader_passes(self) -> PipelinePasses:
        return PipelinePasses(self.reading)

    def is_replicated(self, value: object) -> bool:
        return isinstance(value, keras.Model | keras.optimizers.Optimizer)

    def refuse_nondeterminism(self) -> str:
        return active().refuse_nondeterminism()
