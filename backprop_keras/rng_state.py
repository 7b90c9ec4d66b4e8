"""Every global random generator that a Keras training draws from, taken and set together."""

from __future__ import annotations

import random
import sys
from typing import Any

import keras
import numpy as np

from backprop_keras.backends import active

_SEED_GENERATOR = "global_seed_generator"


def python_to_array(generator: random.Random) -> Any:
    """The 625 words of Python's generator and its spare normal number as one array: a tuple of them is slow to store."""
    version, words, spare = generator.getstate()
    return {"version": version, "words": np.array(words, np.uint32), "spare": spare}


def python_from_array(generator: random.Random, state: Any) -> None:
    """Put back what `python_to_array` returned."""
    generator.setstate((state["version"], tuple(state["words"].tolist()), state["spare"]))


def capture() -> dict[str, Any]:
    """All of them now, as plain values and numpy arrays that share no memory with the generators."""
    states: dict[str, Any] = {
        "python": python_to_array(random._inst),
        "numpy": np.random.get_state(legacy=False),
        "keras": keras_seed(),
        "backend": {keras.backend.backend(): active().randomness()},
    }
    if keras.backend.backend() != "torch" and "torch" in sys.modules:
        states["backend"]["torch"] = _torch().randomness()  # a DataLoader draws from it
    return states


def restore(states: Any) -> None:
    """Put back what `capture` returned; generators of a backend that is not in use here are left alone."""
    here = keras.backend.backend()
    if states["backend"].get(here) is not None:
        active().set_randomness(states["backend"][here])
    if here != "torch" and "torch" in states["backend"] and "torch" in sys.modules:
        _torch().set_randomness(states["backend"]["torch"])
    set_keras_seed(states["keras"])
    np.random.set_state(states["numpy"])
    python_from_array(random._inst, states["python"])


def _torch() -> Any:
    from backprop_keras.backends import on_torch

    return on_torch


def _global_state() -> Any:
    from keras.src.backend.common import global_state

    return global_state


def keras_seed() -> Any:
    """The state of the generator behind `keras.random` without a seed, if it has been used."""
    generator = _global_state().get_global_attribute(_SEED_GENERATOR)
    return None if generator is None else np.array(active().array(generator.state))


def set_keras_seed(state: Any) -> None:
    if state is None:
        return
    generator = _global_state().get_global_attribute(_SEED_GENERATOR)
    if generator is None:
        generator = keras.random.SeedGenerator(0)
        _global_state().set_global_attribute(_SEED_GENERATOR, generator)
    generator.state.assign(active().value(state))
