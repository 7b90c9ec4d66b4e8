"""Handwritten digits with Keras 3 inside a time box, exact on resume, on the backend that KERAS_BACKEND names.

    KERAS_BACKEND=jax backprop run -m 5s --budget-from training examples/digits_keras.py -- --pause 0.02
    backprop resume RUN

Real data: the 1,797 digits that scikit-learn ships. The last line is a digest of all weights and of the History, so that an
uninterrupted run and one in pieces can be compared.
"""

import argparse
import hashlib
import os
import time

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from sklearn.datasets import load_digits

from backprop_keras import BackpropCallback


class Pause(keras.callbacks.Callback):
    """Extra work in each step, to see more of it."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--budget", default=None, help='such as "30s"; default: what backprop run says, or 10 minutes'
    )
    parser.add_argument("--run", default=None, help="id of a run to create or continue")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    data = load_digits()
    images, labels = (data.images[..., None] / 16).astype("float32"), data.target
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3), loss, metrics=["accuracy"])

    box = BackpropCallback(options.budget, run=options.run)
    history = model.fit(
        images[:1500],
        labels[:1500],
        batch_size=32,
        epochs=options.epochs,
        validation_data=(images[1500:], labels[1500:]),
        verbose=2,
        callbacks=[Pause(options.pause), keras.callbacks.ReduceLROnPlateau(patience=2), box],
    )

    digest = hashlib.sha256(repr(history.history).encode())
    for variable in model.variables:
        digest.update(keras.ops.convert_to_numpy(variable).tobytes())
    print(f"{box.outcome} after {len(history.epoch)} whole epochs, digest {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
