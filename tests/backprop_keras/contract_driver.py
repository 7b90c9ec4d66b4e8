"""`model.fit` with a `BackpropCallback`, for the contract of adapters."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import numpy as np

from backprop_core.testing.adapter_driver import DrivenTraining
from backprop_keras import BackpropCallback

PATCHED = (keras.Model, keras.callbacks.CallbackList, type(keras.Sequential()))


class Tells(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback of the script's that is told of each step."""

    def __init__(self, box: DrivenTraining) -> None:
        super().__init__()
        self._tell = box.step

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._tell()


def train(box: DrivenTraining) -> str:
    """Two epochs of six shuffled batches, with dropout and Adam."""
    keras.utils.set_random_seed(3)
    draw = np.random.default_rng(3)
    x, y = draw.normal(size=(24, 4)).astype("float32"), draw.integers(0, 2, 24)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dropout(0.3, seed=4), keras.layers.Dense(2)]
    )
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ours = box.made(BackpropCallback)
    model.fit(
        x, y, batch_size=4, epochs=2, verbose=0, callbacks=[Tells(box), *([] if ours is None else [ours])]
    )
    total = hashlib.sha256()
    for one in (*model.variables, *model.optimizer.variables):
        total.update(np.ascontiguousarray(keras.ops.convert_to_numpy(one)).tobytes())
    return total.hexdigest()
