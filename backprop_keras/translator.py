"""Arrays of JAX and tensors of TensorFlow, in a state that a loop of the user's own keeps by itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from backprop_core.checkpoints.arrays import JSON, ArrayNode, unpinned
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator


class KerasTranslator:
    """Stores `jax.Array` and eager `tf.Tensor` as numpy arrays do, and builds them again as what they were."""

    name = "keras"

    def __init__(self) -> None:
        self._numpy = NumpyTranslator()

    def handles(self, value: object) -> bool:
        return _is_jax(value) or _is_tensorflow(value)

    def identity(self, value: object) -> Hashable | None:
        return None

    def take_apart(self, value: object) -> ArrayNode:
        import numpy as np

        key = _key_of(value)
        if key is not None:
            node = self._numpy.take_apart(np.asarray(key[1]))
            return ArrayNode("jax_key", {**node.meta, "impl": key[0]}, node.arrays)
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        node = self._numpy.take_apart(array)
        return ArrayNode("jax" if _is_jax(value) else "tensorflow", node.meta, node.arrays)

    def build(self, tag: str, meta: Mapping[str, JSON], arrays: Mapping[str, memoryview]) -> object:
        import numpy as np

        array = np.array(self._numpy.build("ndarray", meta, arrays))
        if tag == "jax":
            import jax.numpy

            return jax.numpy.array(array)
        if tag == "jax_key":
            import jax

            return jax.random.wrap_key_data(jax.numpy.array(array), impl=str(meta["impl"]))
        if tag == "tensorflow":
            import tensorflow as tf

            return tf.constant(array)
        raise ValueError(f"{tag!r} cannot be built by Keras' backends")

    def allocate(self, nbytes: int) -> memoryview:
        return self._numpy.allocate(nbytes)

    def pin(self, memory: memoryview) -> Callable[[], None]:
        return unpinned

    def synchronize(self) -> None:
        """Nothing to wait for: copies are done when `copy_into` returns."""


def _is_jax(value: object) -> bool:
    jax: Any = sys.modules.get("jax")
    return jax is not None and hasattr(jax, "Array") and isinstance(value, jax.Array)


def _is_tensorflow(value: object) -> bool:
    tf: Any = sys.modules.get("tensorflow")
    return (
        tf is not None and hasattr(tf, "is_tensor") and bool(tf.is_tensor(value)) and hasattr(value, "numpy")
    )


def _key_of(value: Any) -> tuple[str, Any] | None:
    """The name of its kind and the numbers of an array of random keys."""
    jax: Any = sys.modules.get("jax")
    if jax is None or not _is_jax(value) or not jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return None
    return str(jax.random.key_impl(value)), jax.random.key_data(value)
