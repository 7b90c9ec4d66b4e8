"""Keras on TensorFlow."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from backprop_keras.rng_state import python_from_array, python_to_array

if TYPE_CHECKING:
    from backprop_core.prove.recorder import Recorder

_UNSEEDED = (
    "TensorFlow shuffles arrays with an unseeded tf.random.shuffle, so a resume cannot restore their order. One line "
    "before the model is created fixes that: keras.utils.set_random_seed(1)"
)


def array(variable: Any) -> Any:
    return variable.value.numpy()


def value(array: Any) -> Any:
    return array


def attach(model: Any) -> None:
    """Variables are always up to date."""


def wait(logs: Mapping[str, Any]) -> None:
    for one in logs.values():
        if hasattr(one, "numpy"):
            one.numpy()
            return


def skip(arguments: tuple[Any, ...], batches: int) -> None:
    iterator = arguments[0]
    for taken in range(batches):
        try:
            next(iterator)
        except (StopIteration, tf.errors.OutOfRangeError):
            if not taken:
                raise
            return


def answer(arguments: tuple[Any, ...], logs: Mapping[str, Any]) -> Any:
    return dict(logs)


def _context() -> Any:
    from tensorflow.python.eager import context

    return context.context()


def randomness() -> Any:
    """The seed, the generator that gives operations their seeds, and the global tf.random.Generator if it is used."""
    context = _context()
    own = getattr(context, "_rng", None)
    from tensorflow.python.ops import stateful_random_ops

    generator = stateful_random_ops.global_generator
    return {
        "seed": getattr(context, "_seed", None),
        "operations": python_to_array(own) if isinstance(own, random.Random) else None,
        "generator": None if generator is None else generator.state.numpy(),
    }


def set_randomness(state: Any) -> None:
    context = _context()
    if state["seed"] is not None and state["seed"] != context._seed:
        tf.random.set_seed(state["seed"])
    if state["operations"] is not None and isinstance(getattr(context, "_rng", None), random.Random):
        python_from_array(context._rng, state["operations"])
    if state["generator"] is not None:
        tf.random.get_global_generator().state.assign(np.array(state["generator"]))


def environment() -> Mapping[str, Any]:
    from tensorflow.python.framework.config import is_op_determinism_enabled

    return {
        "tensorflow": tf.__version__,
        "tensorflow_threads": [
            tf.config.threading.get_intra_op_parallelism_threads(),
            tf.config.threading.get_inter_op_parallelism_threads(),
        ],
        "tensorflow_devices": sorted({device.device_type for device in tf.config.list_logical_devices()}),
        "tensorflow_deterministic": bool(is_op_determinism_enabled()),
    }


def refuse_nondeterminism() -> str:
    tf.config.experimental.enable_op_determinism()
    return "tf.config.experimental.enable_op_determinism()"


def noted(items: Any, recorder: Recorder) -> Any:
    """A pipeline that hands each batch on, one at a time and none ahead; of a distributed one nothing can be noted."""
    iterator = iter(items)
    if not isinstance(iterator, tf.data.Iterator):
        return iterator

    def each() -> Iterator[Any]:
        for item in iterator:
            recorder.batch(item)
            yield item

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_optimization.inject_prefetch = False
    passed_on = tf.data.Dataset.from_generator(each, output_signature=iterator.element_spec)
    return iter(passed_on.with_options(options))


def batch_specification(epoch_iterator: Any) -> Any:
    dataset = getattr(epoch_iterator, "_distributed_dataset", None)
    return getattr(dataset, "element_spec", None)


def order_is_lost(epoch_iterator: Any) -> str:
    adapter = epoch_iterator.data_adapter
    shuffled = type(adapter).__name__ == "ArrayDataAdapter" and getattr(adapter, "_shuffle", False)
    return _UNSEEDED if shuffled and getattr(_context(), "_seed", 0) is None else ""
