"""A loop around a function that TensorFlow compiles, as its tutorials write it, in fresh processes under the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.backprop_keras.cutting import environment

SCRIPT = """
import sys, time
import keras, numpy as np, tensorflow as tf

keras.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(4), keras.layers.Dense(1)])
optimizer = keras.optimizers.Adam(0.01)
dataset = tf.data.Dataset.from_tensor_slices(x).shuffle(64, seed=2).batch(8)
calls = []

@tf.function
def train_step(x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - tf.reduce_sum(x, 1, keepdims=True)) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss

for epoch in range(3):
    for step, batch in enumerate(dataset):
        calls.append(float(train_step(batch)))
        time.sleep(0.2 if sys.argv[1:] else 0)
        print("call", len(calls), flush=True)
print("digest", sum(calls).hex(), len(calls), [float(np.abs(v).sum()).hex() for v in model.get_weights()])
"""


def _said(*command: str, folder: Path, stop_at: str = "never") -> str:
    """What a command says; SIGTERM when it has said `stop_at`."""
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment("tensorflow", folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            if line.strip() == stop_at:
                running.send_signal(SIGTERM)
    assert running.returncode == 0, "".join(lines)
    return "".join(lines)


@pytest.mark.long
def test_a_loop_around_a_function_that_tensorflow_compiles_comes_back(tmp_path: Path) -> None:
    """Stopped in its first pass and its second: traces were stored, the optimizer that the first call builds was refused,
    and the order of the first pass was that of the second, because `enumerate` had made its iterator already.
    """
    (tmp_path / "train.py").write_text(SCRIPT)
    whole = _said("train.py", folder=tmp_path)
    run = ("-m", "backprop_cli", "run", "-m", "5", "--run-id", "r", "--no-wait", "--min-free-ram", "0.1")
    resume = ("-m", "backprop_cli", "resume", "r")
    said = _said(*run, "train.py", "--", "slow", folder=tmp_path, stop_at="call 5")
    said += _said(*resume, folder=tmp_path, stop_at="call 12")
    assert "digest" not in said
    said += _said(*resume, folder=tmp_path)
    assert "cannot be kept" not in said
    assert "Not restored" not in said
    told = [next(line for line in one.splitlines() if line.startswith("digest")) for one in (whole, said)]
    assert told[0] == told[1]
