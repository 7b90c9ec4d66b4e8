"""Keras on JAX. During an epoch the values live in the trainer's state tuple, not in the variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from backprop_core.prove.recorder import Recorder


def array(variable: Any) -> Any:
    return np.asarray(variable.value)


def value(array: Any) -> Any:
    return np.array(array)  # JAX may go on using this memory as its own


def attach(model: Any) -> None:
    model.jax_state_sync()


def wait(logs: Mapping[str, Any]) -> None:
    jax.block_until_ready(logs)  # type: ignore[no-untyped-call]


def skip(arguments: tuple[Any, ...], batches: int) -> None:
    iterator = arguments[1]
    for taken in range(batches):
        try:
            next(iterator)
        except StopIteration:
            if not taken:
                raise
            return


def answer(arguments: tuple[Any, ...], logs: Mapping[str, Any]) -> Any:
    return dict(logs), arguments[0]


def randomness() -> Any:
    """JAX has no global generator."""
    return None


def set_randomness(state: Any) -> None:
    """JAX has no global generator."""


def environment() -> Mapping[str, Any]:
    config: Any = jax.config
    return {
        "jax": jax.__version__,
        "jax_platform": jax.default_backend(),
        "jax_devices": jax.device_count(),
        "jax_x64": bool(config.jax_enable_x64),
        "jax_default_prng": str(config.jax_default_prng_impl),
        "jax_matmul_precision": str(config.jax_default_matmul_precision),
    }


def refuse_nondeterminism() -> str:
    return ""


def noted(items: Any, recorder: Recorder) -> Any:
    return recorder.items(items)


def batch_specification(epoch_iterator: Any) -> Any:
    return None


def order_is_lost(epoch_iterator: Any) -> str:
    return ""
