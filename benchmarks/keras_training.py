"""A Keras training with a state and steps of a chosen size, for benchmarks/keras_rows.py to put into boxes."""

from __future__ import annotations

import argparse
import json
import random
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--step-ms", type=float, default=20.0)
    parser.add_argument("--jitter", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--peer", default=None, help="a folder: stop_training and BackupAndRestore instead of ours"
    )
    parser.add_argument("--budget", type=float, default=10.0, help="of the peer, seconds")
    options = parser.parse_args()

    import keras
    import numpy as np

    from backprop_keras import BackpropCallback

    rng = random.Random(options.seed)

    class Work(keras.callbacks.Callback):  # type: ignore[misc]
        """Makes a step take as long as asked, by sleeping."""

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            time.sleep(options.step_ms / 1e3 * rng.uniform(1 - options.jitter, 1 + options.jitter))

    class StopInTime(keras.callbacks.Callback):  # type: ignore[misc]
        """What is found on the web: a clock and stop_training."""

        def __init__(self) -> None:
            super().__init__()
            self.end = time.monotonic() + options.budget
            self.steps = 0

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            self.steps += 1
            if time.monotonic() >= self.end and not self._model.stop_training:
                self._model.stop_training = True

    keras.utils.set_random_seed(options.seed)
    model = keras.Sequential(
        [
            keras.layers.Input((32,)),
            keras.layers.Dense(options.units),
            keras.layers.Dense(options.units),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse", jit_compile=keras.backend.backend() == "jax")
    x = np.ones((32 * 150, 32), "float32")
    callbacks: list[object] = [Work()]
    peer = StopInTime()
    if options.peer is None:
        callbacks.append(BackpropCallback())
    else:
        callbacks += [peer, keras.callbacks.BackupAndRestore(f"{options.peer}/backup", save_freq=50)]
    model.fit(
        x,
        x[:, :1],
        batch_size=32,
        epochs=10_000,
        verbose=0,
        validation_data=(x, x[:, :1]),
        callbacks=callbacks,
    )

    if options.peer is not None:
        print(json.dumps([peer.steps, peer.end - time.monotonic()]))


if __name__ == "__main__":
    main()
