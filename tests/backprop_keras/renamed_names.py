"""An unmodified Keras training on other versions, and with faults of ours: see `tests/other_versions.py`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from backprop_core.session.session import Session
from backprop_keras import needs
from backprop_keras.attach import attach
from backprop_keras.training import FitBox
from backprop_keras.training_state import FitState
from tests.other_versions import Broken, names_of, tell

DECLARED = names_of(needs.OF_A_MODEL, needs.OF_AN_EPOCH_ITERATOR, needs.OF_A_CALLBACK_LIST)
SHARED = {name for name in DECLARED if not name.startswith("_")}
"""Public names: a user's callbacks and models have them as well."""
BROKEN: list[Broken] = [
    *((FitBox, name, 1) for name in ("epoch_begun", "validation_begun", "epoch_is_over", "epoch_ended", "training_ended")),
    *((FitBox, name, 2) for name in ("batch_begun", "batch_ended", "_boundary", "validation_batch_ended")),
    (FitState, "states", 1),
    (Session, "boundary", 3),
]  # fmt: skip


def train() -> Any:
    """The final weights."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = np.arange(16.0).reshape(8, 2) / 16
    model.fit(data, data[:, 0], batch_size=2, epochs=2, validation_data=(data, data[:, 0]), verbose=0)
    return [np.asarray(weight).tolist() for weight in model.get_weights()]


if __name__ == "__main__":
    attach()
    tell("keras", ("keras.src",), DECLARED, SHARED, BROKEN, train)
