"""What a Keras program keeps beside plain values: objects of Keras' own, and a PyDataset with state in every place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from .plain import Held, StateKind, change, fill, in_place

BATCHES, SIZE = 6, 4


def keras_kinds() -> dict[str, StateKind]:
    """Objects that no model and no optimizer of the training has."""

    def network() -> Any:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        model.set_weights([np.ones(one.shape, "float32") for one in model.weights])
        return model

    def train(some: Any) -> None:
        some.set_weights([one * 1.01 + 0.1 for one in some.get_weights()])

    def looked(some: Any) -> Any:
        return [np.array(one).tobytes() for one in some.variables]

    def array(some: Any) -> Any:
        return keras.ops.convert_to_numpy(some).tobytes()

    return {
        "keras_metric": StateKind(
            keras.metrics.Mean, in_place(lambda some: some.update_state(float(some.result()) + 1.5)), looked
        ),
        "keras_variable": StateKind(
            lambda: keras.Variable([1.0, 2.0]), in_place(lambda some: some.assign(some * 1.01)), array
        ),
        "seed_generator": StateKind(
            lambda: keras.random.SeedGenerator(3),
            in_place(lambda some: some.next()),
            lambda some: array(some.state),
        ),
        "model_of_no_optimizer": StateKind(network, in_place(train), looked),
    }


def fitting(kinds: dict[str, StateKind], names: Sequence[str], steps: int = 18) -> list[str]:
    """Those names whose kinds behave the same as attributes of a layer, which makes collections of its own of some."""
    fits = []
    for name in names:
        plain, layer = Held(), keras.layers.Layer(name="scratch")
        try:
            for holder in (plain, layer):
                fill(holder, kinds, [name])
            seen = [[change(one, kinds, [name]) for one in (plain, layer)] for _ in range(steps)]
        except Exception:  # Keras' collections lack methods that the kind needs
            continue
        if all(one == other for one, other in seen):
            fits.append(name)
    return fits


class Transform:
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(11)

    def __call__(self) -> float:
        return float(self.rng.normal())


class Points(keras.utils.PyDataset):  # type: ignore[misc]
    """Six batches of four. What each place of its state gives is a column of the batch, behind four that are trained with.

    Attributes:
        columns: their names.
    """

    def __init__(self, kinds: dict[str, StateKind], names: Sequence[str], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.kinds, self.names = {name: kinds[name] for name in names}, list(names)
        draw = np.random.default_rng(1)
        self.x = draw.normal(size=(BATCHES * SIZE, 3))
        self.y = draw.integers(0, 2, BATCHES * SIZE)
        self.order = list(range(BATCHES * SIZE))
        self.transform = Transform()
        self.kept = {"rng": random.Random(5)}
        self.old = np.random.RandomState(5)
        self.read = self.epochs_begun = self.epochs_over = 0
        fill(self, kinds, names)
        places = ["index", "rng_of_transform", "rng_in_dict", "random_state_of_dataset", "everybodys_rng"]
        places += ["readers_of_dataset", "epochs_begun", "epochs_over"]
        self.columns = [*(f"data.{place}" for place in places), *names]

    def __len__(self) -> int:
        return BATCHES

    def on_epoch_begin(self) -> None:
        self.epochs_begun += 1

    def on_epoch_end(self) -> None:
        self.epochs_over += 1
        self.kept["rng"].shuffle(self.order)

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        rows = self.order[index * SIZE : (index + 1) * SIZE]
        drawn = [self.transform(), self.kept["rng"].random(), float(self.old.rand()), float(np.random.rand())]
        seen = change(self, self.kinds, self.names)
        own = [rows[0], *drawn, self.read, self.epochs_begun, self.epochs_over]
        own += [int(seen[name][:6], 16) for name in self.names]
        columns = np.tile(np.array([drawn[0], *own]), (SIZE, 1))
        return np.concatenate([self.x[rows], columns], axis=1).astype("float32"), self.y[rows]
