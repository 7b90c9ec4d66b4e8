"""JAX and TensorFlow in a script that has not imported Keras: their arrays can be stored, and nothing else is known.

Found by the core through the entry points `jax` and `tensorflow` in `backprop.frameworks`. Imports neither, nor Keras.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from backprop_core.ports.framework import ProcessSetting
from backprop_core.ports.partial_framework import PartialFramework
from backprop_keras.translator import KerasTranslator

_OF_JAX: Final = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_debug_nans",
    "jax_disable_jit",
)


class BareArrays(PartialFramework):
    """One of the two packages, by the name of its module."""

    def __init__(self) -> None:
        self.translator = KerasTranslator()

    def environment(self) -> Mapping[str, Any]:
        version = getattr(sys.modules.get(self.name), "__version__", None)
        return {} if version is None else {self.name: str(version)}


class JaxArrays(BareArrays):
    """Its random keys are arrays, so there is no randomness besides them."""

    name = "jax"

    def environment(self) -> Mapping[str, Any]:
        config: Any = getattr(sys.modules.get("jax"), "config", None)
        return {**super().environment(), "jax_x64": bool(getattr(config, "jax_enable_x64", False))}

    def settings(self) -> Mapping[str, ProcessSetting]:
        config: Any = getattr(sys.modules.get("jax"), "config", None)
        there = [name for name in _OF_JAX if hasattr(config, name)]
        return {name: ProcessSetting(getattr(config, name), partial(config.update, name)) for name in there}

    def is_tracing(self) -> bool:
        clean = getattr(
            sys.modules.get("jax._src.core"), "trace_state_clean", None
        )  # no public name tells it
        return clean is not None and not clean()


class TensorFlowArrays(BareArrays):
    """Its variables are changed in place, its tensors replaced."""

    name = "tensorflow"

    def settings(self) -> Mapping[str, ProcessSetting]:
        config: Any = getattr(sys.modules.get("tensorflow"), "config", None)
        if config is None:
            return {}
        more = config.experimental
        return {
            "tf.config.run_functions_eagerly": ProcessSetting(
                config.functions_run_eagerly(), config.run_functions_eagerly
            ),
            "tf.config.experimental.enable_tensor_float_32_execution": ProcessSetting(
                more.tensor_float_32_execution_enabled(), more.enable_tensor_float_32_execution
            ),
        }
