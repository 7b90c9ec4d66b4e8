"""State that a source of data keeps for itself, between the passes over it."""

from __future__ import annotations

import copy
import queue
import random
from typing import Any

import keras
import numpy as np

from backprop_keras.rng_state import python_from_array, python_to_array

_LARGEST_ORDER = 1 << 24
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


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


def _plain(batch: Any) -> Any:
    return keras.tree.map_structure(lambda one: one if one is None else np.asarray(one), batch)


def _dataset_of(adapter: Any) -> Any:
    """The user's PyDataset, or None."""
    dataset = getattr(adapter, "py_dataset", None)
    return getattr(dataset, "behind", dataset)


def order_of(adapter: Any) -> dict[str, Any]:
    """The indices that a PyDataset of the user's shuffles by itself: its attributes that are lists or arrays of integers.

    Every tutorial's dataset has such an attribute and shuffles it in `on_epoch_end`.
    """
    dataset = _dataset_of(adapter)
    return {} if dataset is None else {name: np.array(v) for name, v in vars(dataset).items() if _is_order(v)}


def set_order(adapter: Any, order: dict[str, Any]) -> None:
    """Put back what `order_of` returned, where the dataset still has something of that shape."""
    dataset = _dataset_of(adapter)
    for name, saved in order.items():
        here = vars(dataset).get(name)
        if _is_order(here) and np.shape(here) == saved.shape:
            setattr(dataset, name, _like(here, saved))


def _like(here: Any, saved: Any) -> Any:
    """The saved indices in the class that the dataset keeps them in."""
    if isinstance(here, np.ndarray):
        return np.array(saved, here.dtype).view(type(here))
    if type(here) is list:
        return saved.tolist()
    list.__setitem__(
        here, slice(None), saved.tolist()
    )  # to make one of the script's class would run its code
    return here


def _is_order(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu" and value.size <= _LARGEST_ORDER
    return isinstance(value, list) and 0 < len(value) <= _LARGEST_ORDER and all(type(v) is int for v in value)


def _own_generators(adapter: Any) -> list[Any]:
    """The generators of its own that the data draws from, each once."""
    dataset = _dataset_of(adapter)
    found = (
        {} if dataset is None else {id(v): v for v in vars(dataset).values() if isinstance(v, _GENERATORS)}
    )
    loader = getattr(adapter, "_dataloader", None)
    samplers = [getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)]
    samplers += [getattr(sampler, "sampler", None) for sampler in samplers if sampler is not None]
    for owner in (loader, *samplers):
        generator = getattr(owner, "generator", None)
        if generator is not None and hasattr(generator, "manual_seed"):
            found[id(generator)] = generator
    return list(found.values())


def own_generator_states(adapter: Any) -> list[Any]:
    """The states of `adapter`'s own generators as plain values and numpy arrays."""
    return [_generator_state(generator) for generator in _own_generators(adapter)]


def _generator_state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return copy.deepcopy(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return (
        python_to_array(generator) if isinstance(generator, random.Random) else generator.get_state().numpy()
    )


def set_own_generators(adapter: Any, states: list[Any]) -> None:
    """Put back what `own_generator_states` returned."""
    for generator, state in zip(_own_generators(adapter), states, strict=False):
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = state
        elif isinstance(generator, np.random.RandomState):
            generator.set_state(state)
        elif isinstance(generator, random.Random):
            python_from_array(generator, state)
        else:
            import torch

            generator.set_state(torch.from_numpy(np.array(state)))
