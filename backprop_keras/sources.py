"""State that a source of data keeps for itself, between the passes over it."""

from __future__ import annotations

import queue
from typing import Any

import keras
import numpy as np


def ready_batches(adapter: Any) -> list[Any]:
    """Batches that workers of a PyDataset made in an earlier pass, which Keras gives first in the next one.

    Keras abandons a pass when it looks at one batch to build a model, and at the end of an epoch; what the workers had
    in hand then is kept. So the order depends on it.
    """
    enqueuer = getattr(adapter, "enqueuer", None)
    return [] if enqueuer is None else [_plain(batch) for batch in list(enqueuer.ready_queue.queue)]


def set_ready_batches(adapter: Any, batches: list[Any]) -> None:
    """Put back what `ready_batches` returned, in place of what is there."""
    enqueuer = getattr(adapter, "enqueuer", None)
    if enqueuer is None:
        return
    enqueuer.ready_queue = queue.Queue()
    for batch in batches:
        enqueuer.ready_queue.put(batch)


def is_pipeline(data: Any) -> bool:
    """Whether it is a `tf.data.Dataset`, without importing TensorFlow."""
    return any(
        kind.__name__ == "DatasetV2" and kind.__module__.startswith("tensorflow.")
        for kind in type(data).__mro__
    )


def _plain(batch: Any) -> Any:
    return keras.tree.map_structure(lambda one: one if one is None else np.asarray(one), batch)


def _own_generators(adapter: Any) -> list[Any]:
    """The generators of its own that a user's torch DataLoader draws from, each once."""
    loader = getattr(adapter, "_dataloader", None)
    if loader is None:
        return []
    samplers = [getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)]
    samplers += [getattr(sampler, "sampler", None) for sampler in samplers if sampler is not None]
    found = {}
    for owner in (loader, *samplers):
        generator = getattr(owner, "generator", None)
        if generator is not None and hasattr(generator, "get_state"):
            found[id(generator)] = generator
    return list(found.values())


def own_generator_states(adapter: Any) -> list[Any]:
    """The states of `adapter`'s own generators as numpy arrays."""
    return [generator.get_state().numpy() for generator in _own_generators(adapter)]


def set_own_generators(adapter: Any, states: list[Any]) -> None:
    """Put back what `own_generator_states` returned."""
    for generator, state in zip(_own_generators(adapter), states, strict=False):
        import torch

        generator.set_state(torch.from_numpy(np.array(state)))
