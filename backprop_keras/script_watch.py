"""What the script's own callbacks change while Keras trains, whatever they call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from backprop_core.checkpoints.arrays import Translator
from backprop_core.ports.framework import frameworks_in_use
from backprop_core.script_state.kinds import is_the_scripts
from backprop_core.script_state.object_watch import ObjectWatch, callbacks_by_name, package_of

_KEPT_WITH_THE_MODEL = (keras.Layer, keras.optimizers.Optimizer, keras.metrics.Metric, keras.losses.Loss)
_PACKAGES = frozenset({"keras", "tensorflow", "jax", "jaxlib"})


class CallbackWatch(ObjectWatch):
    """The state of one fit's callbacks, those of Keras' own excepted: what they remember is known.

    Args:
        callbacks: the fit's list, a live view.
    """

    def __init__(self, callbacks: Sequence[Any], translators: Sequence[Translator]) -> None:
        super().__init__(
            lambda: callbacks_by_name(callbacks, lambda one: is_the_scripts(type(one))),
            is_stored,
            frameworks_in_use(),
            translators,
        )


def is_stored(value: object) -> bool:
    """Whether it is a model or a part of one, or Keras' own."""
    kind = type(value)
    if issubclass(kind, _KEPT_WITH_THE_MODEL):
        return True
    return package_of(value) in _PACKAGES and not hasattr(kind, "__array__")
