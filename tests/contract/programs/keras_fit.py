"""Keras' `fit`: state in callbacks, in the model and a layer of it, in a PyDataset, in globals and locals."""

import os
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from state_kinds import arrays, keras_data
from state_kinds.plain import KINDS, Held, begin_epoch, change, fill
from state_kinds.trace import note

FORM, BACKEND = sys.argv[1], keras.backend.backend()
OF_BACKEND: dict[str, Callable[[], dict[str, Any]]] = {
    "torch": arrays.torch_kinds,
    "jax": arrays.jax_kinds,
    "tensorflow": arrays.tensorflow_kinds,
}
ALL = {**KINDS, **arrays.numpy_kinds(), **OF_BACKEND[BACKEND](), **keras_data.keras_kinds()}
NAMES = list(ALL)
OF_KERAS = list(keras_data.keras_kinds())
OF_MODEL, OF_LAYER, OF_CALLBACK, OF_DATA, OF_SCRIPT = (NAMES[start::5] for start in range(5))
OF_SCRIPT = [*OF_SCRIPT, *(name for name in [*OF_MODEL, *OF_LAYER, *OF_DATA] if name in OF_KERAS)]
OF_MODEL, OF_LAYER, OF_DATA = ([n for n in own if n not in OF_KERAS] for own in (OF_MODEL, OF_LAYER, OF_DATA))
DIRECTLY = keras_data.fitting(ALL, [*OF_MODEL, *OF_LAYER])
SCRIPT = sys.modules["__main__"]
steps_of_module = 0
keras.utils.set_random_seed(0 if FORM == "run" else int(os.environ["CONTRACT_SEED"]))


def settle(holder: Any, names: list[str]) -> None:
    """Attributes of the layer itself, and of an object in it where Keras would make others of them."""
    holder.held = Held()
    fill(holder, ALL, [name for name in names if name in DIRECTLY])
    fill(holder.held, ALL, [name for name in names if name not in DIRECTLY])


def holders(model: Any, notes: Any) -> list[tuple[Any, list[str]]]:
    found: list[tuple[Any, list[str]]] = [(notes, OF_CALLBACK), (SCRIPT, OF_SCRIPT)]
    for holder, names in ((model, OF_MODEL), (model.noisy, OF_LAYER)):
        found.append((holder, [name for name in names if name in DIRECTLY]))
        found.append((holder.held, [name for name in names if name not in DIRECTLY]))
    return found


class Noisy(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.drop = keras.layers.Dropout(0.3)
        settle(self, OF_LAYER)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.drop(x, training=training)


class Net(keras.Model):
    def __init__(self, columns: list[str]) -> None:
        super().__init__()
        self.dense, self.noisy, self.out = keras.layers.Dense(8), Noisy(), keras.layers.Dense(2)
        self.columns = columns
        settle(self, OF_MODEL)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.out(self.noisy(self.dense(x[:, :4]), training=training))

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        logs = dict(super().compute_metrics(x, y, y_pred, sample_weight))
        return {**logs, **{name: x[0, 4 + n] for n, name in enumerate(self.columns)}}


class Notes(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        fill(self, ALL, OF_CALLBACK)
        self.tested, self.flag, self.flags = 0, False, list[bool]()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.flag = True
        for holder, names in holders(self.model, self):
            begin_epoch(holder, ALL, names)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.flags.append(self.flag)
        self.flag = False

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.tested += 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        global steps_of_module
        steps_of_module += 1
        seen: dict[str, str] = {}
        for holder, names in holders(self.model, self):
            seen |= change(holder, ALL, names)
        numbers = {name: float(keras.ops.convert_to_numpy(one)) for name, one in logs.items()}
        note(
            {
                **seen,
                **{name: repr(number) for name, number in numbers.items()},
                "weights": repr([keras.ops.convert_to_numpy(one).tolist() for one in self.model.variables]),
                "global_number": repr(steps_of_module),
                "local": os.environ["LOCALS"],
                "closure": os.environ["CLOSURE"],
                "tested": repr(self.tested),
                "flags": repr(self.flags),
            }
        )


def counting() -> Any:
    """A hook that keeps its number in variables that no running function has."""
    count = 0

    def one_more(*_: Any, **__: Any) -> None:
        nonlocal count
        count += 1
        os.environ["CLOSURE"] = repr(count)

    return one_more


def train() -> None:
    curve, steps = [0.5], 0

    def one_more(*_: Any, **__: Any) -> None:
        nonlocal steps
        steps += 1
        curve.append(curve[-1] * 1.25 % 7 + steps)
        os.environ["LOCALS"] = repr((steps, curve))

    fill(SCRIPT, ALL, OF_SCRIPT)
    data = keras_data.Points(ALL, OF_DATA)
    own = keras.callbacks.LambdaCallback(on_train_batch_begin=one_more, on_train_batch_end=counting())
    callbacks: list[Any] = [own, Notes()]
    if FORM == "callback" and os.environ["CONTRACT_RUN"] != "whole":
        from backprop_keras import BackpropCallback

        callbacks.append(BackpropCallback("10h", run="cut", grace=0, strict="CONTRACT_STRICT" in os.environ))
    model = Net(data.columns)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], jit_compile=BACKEND == "jax")
    beside = np.ones((4, 4 + len(data.columns)), "float32"), np.zeros(4, "int64")
    history = model.fit(data, epochs=3, verbose=0, validation_data=beside, callbacks=callbacks)
    if len(callbacks) == 2 or callbacks[-1].outcome.value == "completed":
        note({"end": repr(sorted(one for one in history.history.items() if one[0] not in ALL))})


train()
